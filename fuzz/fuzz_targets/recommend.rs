//! Bodies of `POST /recommend`, through the whole route.
#![no_main]

oo_fuzz::bodies!("/recommend");
