//! The program on loopback, as callers see it. Every server is started on a port of its own and stopped by its pid;
//! every read has a time-out.

mod backup;
mod change;
mod client;
mod contract;
mod disk;
mod input;
mod kill;
mod learning;
mod many;
mod otlp;
mod parity;
mod people;
mod registry;
mod shadows;
mod start;
mod strain;
