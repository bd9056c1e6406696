//! The HTTP API from outside: a server on a port of its own, and clients that only speak HTTP.

mod accounts;
mod cases;
mod connections;
mod deciding;
mod deletion;
mod evidence;
mod house;
mod line;
mod manners;
mod policy;
mod quotas;
mod tenants;
