//! Bodies of `POST /feedback`, through the whole route.
#![no_main]

oo_fuzz::bodies!("/feedback");
