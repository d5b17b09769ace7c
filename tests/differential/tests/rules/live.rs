//! Live: both servers are sent the same samples and evaluate the same file of rules at the same
//! times, since groups have the same place in their interval.
