//! Writes `impl Record`.
//!
//! Each field becomes calls of the functions of `headwater::record::__private`, with a codec, the field's
//! type, its column's name and a closure. Every token of such a call carries the span of the field's
//! type (hence the `use`: a path has one span), so the compiler marks that type if it is no column type.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use crate::input::{RecordColumn, Struct, TimestampUnit};

/// Writes the implementation for a struct.
pub fn record(input: &Struct) -> TokenStream {
    let (ident, krate) = (&input.ident, &input.krate);
    let private = quote!(#krate::record::__private);
    let (schema, event_time) = (schema(input), event_time(input, &private));
    let (to_columns, from_columns) = (to_columns(input), from_columns(input));
    let heap_bytes = heap_bytes(input);
    quote! {
        #[automatically_derived]
        impl #krate::record::Record for #ident {
            fn schema() -> #private::SchemaRef {
                use #private as __private;
                #schema
            }

            fn to_record_batch(&self) -> #private::RecordBatch {
                #private::single(self)
            }

            #event_time

            #[inline]
            fn heap_bytes(&self) -> usize {
                use #private as __private;
                #heap_bytes
            }

            fn to_columns(
                rows: &[Self],
            ) -> ::core::result::Result<#private::RecordBatch, #krate::record::RecordError> {
                use #private as __private;
                #to_columns
            }

            fn from_columns(
                batch: &#private::RecordBatch,
            ) -> ::core::result::Result<::std::vec::Vec<Self>, #krate::record::RecordError> {
                use #private as __private;
                #from_columns
            }
        }
    }
}

fn schema(input: &Struct) -> TokenStream {
    let fields = input.columns.iter().map(|column| {
        let (name, types) = (&column.name, types(column));
        quote_spanned!(column.ty.span()=> __private::field::<#types>(#name))
    });
    quote! {
        static SCHEMA: __private::OnceLock<__private::SchemaRef> = __private::OnceLock::new();
        SCHEMA.get_or_init(|| __private::schema(::std::vec![#(#fields),*])).clone()
    }
}

fn event_time(input: &Struct, private: &TokenStream) -> TokenStream {
    let Some(column) = input.columns.iter().find(|column| column.event_time) else {
        return TokenStream::new();
    };
    let (ident, types) = (&column.ident, types(column));
    let micros = quote_spanned!(column.ty.span()=> __private::event_time::<#types>(&self.#ident));
    quote! {
        fn event_time(&self) -> ::core::option::Option<i64> {
            use #private as __private;
            #micros
        }
    }
}

fn heap_bytes(input: &Struct) -> TokenStream {
    let fields = input.columns.iter().map(|column| {
        let (ident, types) = (&column.ident, types(column));
        quote_spanned!(column.ty.span()=> __private::heap_bytes::<#types>(&self.#ident))
    });
    quote!(0 #(+ #fields)*)
}

fn to_columns(input: &Struct) -> TokenStream {
    let arrays = input.columns.iter().map(|column| {
        let RecordColumn { ident, name, .. } = column;
        let types = types(column);
        quote_spanned!(column.ty.span()=> __private::array::<#types, Self>(#name, rows, |row| &row.#ident)?)
    });
    quote! {
        __private::batch::<Self>(rows.len(), ::std::vec![#(#arrays),*])
    }
}

fn from_columns(input: &Struct) -> TokenStream {
    let opened: Vec<_> = (0..input.columns.len())
        .map(|i| format_ident!("column_{i}"))
        .collect();
    let opens = input.columns.iter().map(|column| {
        let (name, types) = (&column.name, types(column));
        quote_spanned!(column.ty.span()=> __private::open::<#types>(batch, #name))
    });
    let fields = input.columns.iter().zip(&opened).map(|(column, opened)| {
        let (ident, types) = (&column.ident, types(column));
        quote_spanned!(column.ty.span()=> #ident: __private::get::<#types>(&#opened, row)?)
    });
    let skipped = input
        .skipped
        .iter()
        .map(|ident| quote_spanned!(ident.span()=> #ident: ::core::default::Default::default()));
    quote! {
        match (#(#opens,)*) {
            (#(::core::result::Result::Ok(#opened),)*) => {
                let mut rows = ::std::vec::Vec::with_capacity(batch.num_rows());
                for row in 0..batch.num_rows() {
                    rows.push(Self { #(#fields,)* #(#skipped,)* });
                }
                ::core::result::Result::Ok(rows)
            }
            (#(#opened,)*) => ::core::result::Result::Err(__private::refusal([#(#opened.err()),*])),
        }
    }
}

/// The codec of a column and the type of its field.
fn types(column: &RecordColumn) -> TokenStream {
    let ty = &column.ty;
    let unit = match column.timestamp {
        None => return quote_spanned!(ty.span()=> __private::Plain, #ty),
        Some(TimestampUnit::Second) => quote!(TimestampSecondType),
        Some(TimestampUnit::Millisecond) => quote!(TimestampMillisecondType),
        Some(TimestampUnit::Microsecond) => quote!(TimestampMicrosecondType),
        Some(TimestampUnit::Nanosecond) => quote!(TimestampNanosecondType),
    };
    quote_spanned!(ty.span()=> __private::InUnit<__private::types::#unit>, #ty)
}
