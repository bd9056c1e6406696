//! The line end to end: the binary on real folders and files, as a user runs it.

mod answers;
mod bad_input;
mod changes;
mod deciding;
mod drift;
mod files;
mod folder;
mod inside;
mod moving;
mod onboarding;
mod remote;
mod serving;
mod tenants;
mod views;
