//! Wire formats to model and back.
