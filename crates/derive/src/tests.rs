//! What the derive refuses: the message, and the token that it points at.
//!
//! Run on token streams rather than through the compiler, so that a test needs neither Arrow nor
//! a second build. What the accepted structs do is tested in `engine/tests/record.rs`.

use std::str::FromStr;

use proc_macro2::TokenStream;
use quote::ToTokens;

use crate::input::Struct;

/// Each error of a struct as `marked token: message`.
fn refusals(source: &str) -> Vec<String> {
    // The sources below are valid Rust tokens.
    let tokens = TokenStream::from_str(source).unwrap();
    let Err(errors) = syn::parse2(tokens).and_then(Struct::read) else {
        return Vec::new();
    };
    let shown = |e: syn::Error| format!("{}: {e}", e.span().source_text().unwrap_or_default());
    errors.into_iter().map(shown).collect()
}

#[track_caller]
fn refused(source: &str, expected: &[&str]) {
    assert_eq!(refusals(source), expected);
}

#[test]
fn accepts_what_a_record_may_be() {
    let plain = "struct T { a: i64, #[record(rename = \"b c\")] b: Option<String> }";
    let times = "struct T { #[record(timestamp = \"ms\", event_time)] a: i64, #[record(timestamp)] b: i64 }";
    let rest =
        "#[record(crate = \"a::b\")] struct T { r#type: u8, #[record(skip)] cache: Vec<Cell<u8>> }";
    for source in [plain, times, rest] {
        refused(source, &[]);
    }
}

#[test]
fn names_of_columns_and_of_the_crate_can_be_given() {
    let source =
        "#[record(crate = \"a::b\")] struct T { r#type: u8, #[record(rename = \"Time\")] ts: i64 }";
    let tokens = TokenStream::from_str(source).unwrap();
    let record = syn::parse2(tokens).and_then(Struct::read).unwrap();
    let names: Vec<_> = record.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["type", "Time"]);
    assert_eq!(record.krate.to_token_stream().to_string(), "a :: b");
}

#[test]
fn a_record_is_a_struct_with_named_fields() {
    let cases = [
        (
            "enum Side { Buy, Sell }",
            "enum: a record must be a struct with named fields, `Side` is an enum",
        ),
        (
            "union U { a: u8 }",
            "union: a record must be a struct with named fields, `U` is a union",
        ),
        (
            "struct P(f64, i64);",
            "(f64, i64): a record must be a struct with named fields, `P` is a tuple struct: its columns have no names",
        ),
        (
            "struct Unit;",
            "Unit: a record must be a struct with named fields, `Unit` is a unit struct",
        ),
        (
            "struct Empty {}",
            "Empty: a record needs at least one field that is a column",
        ),
        (
            "struct Skipped { #[record(skip)] a: u8 }",
            "Skipped: a record needs at least one field that is a column",
        ),
    ];
    for (source, expected) in cases {
        refused(source, &[expected]);
    }
}

#[test]
fn a_record_has_no_parameters_and_borrows_nothing() {
    let parameter = "a record has no type parameters, because its columns must be known: derive Record on a struct for each type";
    let lifetime = "a record is sent to another thread, so it must own its fields: use String, Arc<str> or Symbol<N> \
                    instead of borrowed text";
    let reference =
        "a record must own its fields: use String, Arc<str> or Symbol<N> instead of a reference";
    refused(
        "struct T<'a, V: Clone> { a: &'a str, b: V }",
        &[
            &format!("'a: {lifetime}"),
            &format!("V: Clone: {parameter}"),
            &format!("&'a str: {reference}"),
        ],
    );
    refused(
        "struct T { a: &'static str }",
        &[&format!("&'static str: {reference}")],
    );
}

#[test]
fn attributes_are_known_and_have_sensible_values() {
    let field =
        "a field takes rename = \"name\", event_time, timestamp, timestamp = \"ms\" and skip";
    let cases = [
        (
            "renam = \"x\"",
            format!("renam: `renam` is unknown: {field}"),
        ),
        (
            "crate = \"x\"",
            format!("crate: `crate` is unknown: {field}"),
        ),
        (
            "rename = \"\"",
            "\"\": a column name must not be empty".to_owned(),
        ),
        (
            "timestamp = \"min\"",
            "\"min\": \"min\" is not a timestamp unit: use \"s\", \"ms\", \"us\" or \"ns\""
                .to_owned(),
        ),
        ("skip, skip", "skip: `skip` is given twice".to_owned()),
        (
            "skip, event_time",
            "event_time: a skipped field has no column: remove this or `skip`".to_owned(),
        ),
    ];
    for (attribute, expected) in cases {
        refused(
            &format!("struct T {{ #[record({attribute})] a: i64 }}"),
            &[&expected],
        );
    }
    let expected = "rename: `rename` is unknown: a struct takes crate = \"path\"";
    refused("#[record(rename = \"x\")] struct T { a: i64 }", &[expected]);
}

#[test]
fn all_errors_are_reported_together() {
    refused(
        "struct T { a: i64, #[record(rename = \"a\")] b: i64, #[record(event_time)] c: X, #[record(event_time)] d: X,
                    #[record(nope)] e: i64 }",
        &[
            "nope: `nope` is unknown: a field takes rename = \"name\", event_time, timestamp, timestamp = \"ms\" and skip",
            "b: column \"a\" is already another field",
            "d: `c` is already the event time, a record has only one",
        ],
    );
}

#[test]
fn an_error_becomes_a_compile_error() {
    let tokens = TokenStream::from_str("enum E {}").unwrap();
    assert!(crate::record(tokens).to_string().contains("compile_error"));
}
