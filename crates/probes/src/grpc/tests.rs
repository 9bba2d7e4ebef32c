//! Every way a gRPC server can answer a probe, by real servers on the loopback.
