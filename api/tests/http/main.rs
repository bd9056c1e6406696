//! The HTTP API from outside: a server on a port of its own, and clients that only speak HTTP.

mod accounts;
mod cases;
mod connections;
mod deletion;
mod evidence;
mod house;
mod line;
mod manners;
mod quotas;
mod tenants;
