//! Tests that need the whole crate: strangers' vectors, the attack matrix with a forge of our own, and key sets
//! served by real servers.

mod forge;
mod guards;
mod matrix;
mod remote;
mod server;
mod settings;
mod vectors;
