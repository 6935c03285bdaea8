//! Bodies of `POST /policies`, through the whole route.
#![no_main]

oo_fuzz::bodies!("/policies");
