//! The HTTP API from outside: a server on a port of its own, and clients that only speak HTTP.

mod accounts;
mod advice;
mod bound;
mod cases;
mod connections;
mod deciding;
mod deletion;
mod evidence;
mod house;
mod lag;
mod line;
mod manners;
mod mappings;
mod model;
mod policy;
mod quarantine;
mod quotas;
mod runs;
mod tenants;
mod webhooks;
