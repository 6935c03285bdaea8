//! Bodies of `POST /score`, through the whole route.
#![no_main]

oo_fuzz::bodies!("/score");
