//! Errors, each told once: the variant and its text.

/// An enum that displays each variant as its text, which may name the variant's fields.
macro_rules! errors {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$doc:meta])* $kind:ident $(($($field:ident: $type:ty),*))? => $text:literal $(, $part:expr)*;)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $kind $(($($type),*))?,)*
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$kind $(($($field),*))? => write!(f, $text $(, $part)*),)*
                }
            }
        }
    };
}

pub(crate) use errors;
