//! Files, clock and randomness behind ports, real and simulated.
