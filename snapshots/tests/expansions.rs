//! Expansions are as they were reviewed: `INSTA_UPDATE=always cargo test -p quantloom-snapshots` accepts
//! new ones, and the diff shows what they change.

fn check(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => "../expansions",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn formats() {
    for declaration in quantloom_snapshots::declarations() {
        check(&declaration.name, &declaration.expansion());
    }
}

#[test]
fn instruction_sets() {
    check("isa", &quantloom_snapshots::instruction_sets());
}
