//! What a wrong declaration says: one case per rule of the macro's checker, in `ui`, beside the error
//! messages. `TRYBUILD=overwrite cargo test -p quantloom-kernels --test ui` writes those anew.

#[test]
fn errors_are_on_the_users_tokens() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
