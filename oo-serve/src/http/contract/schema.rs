//! The schemas of what is read by hand: a derived one would name one of the forms.

use super::{Context, Features, Id, ProfileBody, When};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

fn one(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(kind))
}

fn text_or_number(most: u64, description: &str) -> RefOr<Schema> {
    let kinds = SchemaType::from_iter([Type::String, Type::Integer]);
    let both = ObjectBuilder::new().schema_type(kinds);
    both.minimum(Some(0u64))
        .maximum(Some(most))
        .description(Some(description))
        .into()
}

/// Numbers by position.
fn positional() -> ArrayBuilder {
    ArrayBuilder::new().items(one(Type::Number))
}

/// Numbers by name.
fn named() -> ObjectBuilder {
    one(Type::Object).additional_properties(Some(AdditionalProperties::from(one(Type::Number))))
}

impl PartialSchema for Id<'_> {
    fn schema() -> RefOr<Schema> {
        text_or_number(
            u64::MAX,
            "A text of 1 to 512 bytes without control characters, or a whole number, which counts as its decimal text.",
        )
    }
}

impl ToSchema for Id<'_> {}

impl PartialSchema for When {
    fn schema() -> RefOr<Schema> {
        text_or_number(
            super::LAST_MS,
            "RFC 3339 with an offset, the same without one (the person's own time), a date (its first minute), or \
             milliseconds since 1970.",
        )
    }
}

impl ToSchema for When {}

impl PartialSchema for Features<'_> {
    fn schema() -> RefOr<Schema> {
        let both = OneOfBuilder::new().item(positional()).item(named());
        both.description(Some("Numbers by position or by name.")).into()
    }
}

impl ToSchema for Features<'_> {}

impl PartialSchema for Context<'_> {
    fn schema() -> RefOr<Schema> {
        let or_null = |what: RefOr<Schema>| OneOfBuilder::new().item(one(Type::Null)).item(what);
        let tips = named()
            .property("now", or_null(Ref::from_schema_name("When").into()))
            .property("profile", or_null(Ref::from_schema_name("ProfileBody").into()));
        let both = OneOfBuilder::new().item(positional()).item(tips);
        both.description(Some(
            "Numbers by position or by name, and for policies over the features of tips `now` and `profile`.",
        ))
        .into()
    }
}

impl ToSchema for Context<'_> {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((When::name().into(), When::schema()));
        schemas.push((ProfileBody::name().into(), ProfileBody::schema()));
    }
}
