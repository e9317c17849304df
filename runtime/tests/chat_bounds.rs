//! What no chat template may do: take much memory, time or stack, or panic.

use std::time::{Duration, Instant};
use std::{fs, thread};

use quantloom::chat::{ChatTemplate, Data};
use quantloom::gguf::{Gguf, Metadata};
use quantloom::tokenizer::Tokenizer;

/// A thread's stack: half of what Rust gives it, as much here is built without optimization.
const STACK: usize = 1 << 20;

/// The longest time for one template: no more than some seconds on a slow machine.
const TIME: Duration = Duration::from_secs(10);

/// Memory beyond what the process had before.
const MEMORY: usize = 200 << 20;

fn tokenizer() -> Tokenizer {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/llama-spm-vocab.gguf");
    Tokenizer::from_metadata(Gguf::open(path).unwrap().metadata()).unwrap()
}

/// What becomes of `source`: a text or an error.
fn render(source: &str, variables: &Data, tokenizer: &Tokenizer) -> Result<String, String> {
    let mut metadata = Metadata::new("model.gguf");
    metadata.insert("tokenizer.chat_template", source).unwrap();
    let template = ChatTemplate::from_metadata(&metadata, tokenizer).map_err(|error| error.to_string())?;
    let rendered = template.expect("there is one").render_with(variables);
    rendered.map(|rendered| rendered.text().to_owned()).map_err(|error| error.to_string())
}

/// The most memory that the process ever had.
fn peak_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: usize = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0);
    kib << 10
}

/// Runs `test` with little stack.
fn with_little_stack(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK).spawn(test).unwrap();
    thread.join().unwrap();
}

fn variables() -> Data {
    serde_json::from_str(r#"{"messages": [{"role": "user", "content": "Hi there"}], "d": {"a": 1}}"#).unwrap()
}

#[test]
fn no_template_takes_more_than_its_budget() {
    let many = "{% set x = 'x' * 10**6 %}";
    let doubled =
        "{% set ns = namespace(x=['x']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
    let graph =
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    let graph_of_dicts = "{% set ns = namespace(x={}) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}";
    let graph_of_tuples =
        "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}";
    let large = "{% set l = range(100000) | list %}";
    let long = "{% set a = 'a' * 3000 * 3000 %}{% set b = 'a' * 3000 * 3000 %}";
    let numbered =
        |count: usize, end: &str| -> String { (0..count).map(|i| format!("k{i}{end},")).collect() };
    let name = "n".repeat(200_000);
    let keyed = "{% set d = dict(range(40000) | map('string') | map('replace', '', 'k', 1) | batch(2)) %}";
    let cases = [
        // The cases of texts that are longer than what they come from.
        "{{ messages|tojson(indent=10**9) }}".to_string(),
        doubled.into(),
        "{{ ('a'*30000000).split('a') }}".into(),
        "{{ 'x' * 10**9 }}".into(),
        "{{ 10**9 * 'x' }}".into(),
        "{{ ('x' * 10**8) | length }}".into(),
        "{{ 'x'.ljust(10**9) }}".into(),
        "{{ 'x'.rjust(10**9, '-') }}".into(),
        "{{ 'x'.center(10**9) }}".into(),
        "{{ 'x'.zfill(10**9) }}".into(),
        "{{ 'x' | center(10**12) }}".into(),
        "{{ '\t'.expandtabs(10**9) }}".into(),
        "{{ 'x' | indent(10**9, true) }}".into(),
        "{{ ('x\n' * 10**5) | indent('y' * 10**5) }}".into(),
        "{{ messages | tojson(indent='x' * 10**7) }}".into(),
        "{{ [[[[1]]]] | tojson(separators=('x' * 10**7, 'y' * 10**7), indent='z' * 10**7) }}".into(),
        "{{ range(9) | list | tojson(separators=('x' * 10**7, 'y')) }}".into(),
        "{{ '%99999999999d' | format(1) }}".into(),
        "{{ '%.99999999999f' | format(1.5) }}".into(),
        "{{ '%.999999999f' % 1.5 }}".into(),
        "{{ '%*d' % (10**9, 1) }}".into(),
        "{{ '%.999999999d' % 1 }}".into(),
        "{{ '%999999999s' % 'x' }}".into(),
        "{{ '{:99999999999}'.format(1) }}".into(),
        "{{ '{:999999999}'.format(1) }}".into(),
        "{{ '{:0999999999,}'.format(1) }}".into(),
        "{{ '{:.999999999f}'.format(1.5) }}".into(),
        "{{ '{:.999999999e}'.format(1.5) }}".into(),
        "{{ '{:>{}}'.format('x', 10**9) }}".into(),
        "{{ ('{:9999}' * 10**5).format(*range(100000)) }}".into(),
        format!("{many}{{{{ x.replace('x', x) }}}}"),
        format!("{many}{{{{ x | replace('x', x) }}}}"),
        format!("{many}{{{{ x.replace('', x) }}}}"),
        format!("{many}{{{{ x.join(range(90000) | map('string')) }}}}"),
        format!("{many}{{{{ range(90000) | join(x) }}}}"),
        format!("{many}{{% for i in range(90000) %}}{{{{ x.find('y') }}}}{{% endfor %}}"),
        format!("{many}{{% for i in range(90000) %}}{{{{ x[-1:] }}}}{{{{ x | length }}}}{{% endfor %}}"),
        format!("{many}{{% for i in range(90000) %}}{{{{ 'y' in x }}}}{{{{ x == x ~ '' }}}}{{% endfor %}}"),
        format!("{many}{{% for i in range(90000) %}}{{{{ x.isalpha() }}}}{{{{ x is lower }}}}{{% endfor %}}"),
        format!("{many}{{% for i in range(90000) %}}{{{{ x }}}}{{% endfor %}}"),
        format!("{many}{{{{ x.split('') }}}}{{% for c in x * 40 %}}{{% endfor %}}"),
        format!("{many}{{{{ (x * 40) | list | length }}}}"),
        format!("{many}{{{{ (x * 40).splitlines() }}}}{{{{ ('x\n' * 10**7).splitlines() }}}}"),
        format!("{many}{{{{ (x * 9) | e | urlencode | e | urlencode | e }}}}{{{{ ('<' * 10**7) | e }}}}"),
        format!("{many}{{{{ ('\\0' * 10**7) | tojson }}}}"),
        "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}".into(),
        "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}"
            .into(),
        "{% set ns = namespace(x='xé') %}{% for i in range(99) %}{% set ns.x = ns.x ~ messages[0].content ~ ns.x %}{% endfor %}"
            .into(),
        "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = m(ns.x) %}{% endfor %}"
            .into(),
        "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x %}{% call m() %}{{ ns.x }}{% endcall %}{% endset %}{% endfor %}"
            .into(),
        "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x %}{% filter replace('x', 'xx') %}{{ ns.x }}{% endfilter %}{% endset %}{% endfor %}"
            .into(),
        // Rows of values.
        "{{ [0] * 10**9 }}".into(),
        "{{ ([0] * 10**9) | length }}".into(),
        "{{ (1, 2) * 10**12 }}".into(),
        "{{ [] * 10**30 }}{{ [[]] * 10**30 }}".into(),
        format!("{doubled}{{{{ ns.x | length }}}}"),
        "{% set ns = namespace(x=['x']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% for y in ns.x %}{% endfor %}{% endfor %}"
            .into(),
        "{% set ns = namespace(x=[0]) %}{% for i in range(60) %}{% set ns.x = [*ns.x] if false else dict(a=ns.x).a + ns.x %}{% endfor %}"
            .into(),
        "{{ range(100000) | batch(1, 'x') | list | map('list') | map('join') | list | sort | join | length }}{{ [1] | batch(10**9, 'x') | list }}"
            .into(),
        "{{ [1] | slice(10**9) | list }}".into(),
        "{{ range(100000) | slice(100000, 'x') | map('list') | map('sort') | list }}{{ range(10**9) }}".into(),
        format!("{large}{{% for i in l %}}{{{{ l | sort | first }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{{{ l | unique | first }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{{{ l | map('string') | first }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{{{ l | select('odd') | first }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{{{ l | sum }}}}{{{{ l | max }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{{{ l.index(99999) }}}}{{{{ -1 in l }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{{{ l[::-1] | length }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{{{ l == l[:] }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{{{ l | join | length }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{{{ range(*l) }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{{{ '{{}}'.format(*l) }}}}{{{{ dict(l | map('list')) }}}}{{% endfor %}}"),
        format!("{large}{{% for i in l %}}{{% for j in l %}}{{{{ loop.length }}}}{{% break %}}{{% endfor %}}{{% endfor %}}"),
        format!("{large}{{{{ l | map('replace', '1', 'x' * 10**5) | list | length }}}}"),
        format!("{large}{{{{ l | map('center', 10**5) | list | length }}}}"),
        format!("{large}{{{{ l | map('tojson', indent=10**5) | list | length }}}}{{{{ l | map('list') }}}}"),
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}".into(),
        "{% for i in range(90000) if range(90000) | list %}{% endfor %}".into(),
        "{% for i in range(90000) %}{% set x = namespace(a=range(90000) | list) %}{% endfor %}".into(),
        "{% for i in range(90000) %}{% macro m() %}{% endmacro %}{% set ns = namespace(m=m) %}{% for j in range(99) %}{% macro n() %}{% endmacro %}{% endfor %}{% endfor %}"
            .into(),
        "{% set ns = namespace(d={}) %}{% for i in range(90000) %}{% set ns.d = dict(ns.d, **{i | string: i}) %}{% endfor %}".into(),
        // What is small and prints, compares or hashes without end.
        format!("{graph}{{{{ ns.x }}}}"),
        format!("{graph}{{{{ ns.x | tojson }}}}"),
        format!("{graph}{{{{ ns.x | string | length }}}}{{{{ '%s' % [ns.x] }}}}"),
        format!("{graph}{{% set a = ns.x %}}{graph}{{{{ a == ns.x }}}}{{{{ a < ns.x }}}}{{{{ [a] | sort }}}}{{{{ a in [ns.x] }}}}"),
        format!("{graph_of_dicts}{{{{ ns.x }}}}"),
        format!("{graph_of_dicts}{{% set a = ns.x %}}{graph_of_dicts}{{{{ a == ns.x }}}}"),
        format!("{graph_of_dicts}{{{{ ns.x | tojson(sort_keys=true) }}}}"),
        format!("{graph_of_tuples}{{{{ {{ns.x: 1}} }}}}"),
        format!("{graph_of_tuples}{{{{ [ns.x] | unique | list }}}}"),
        // Depth.
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}".into(),
        "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}".into(),
        "{% macro f() %}{% set x %}{% filter upper %}{% with a = 1 %}{% for i in [1] %}{% if true %}{{ (((f()))) }}{% endif %}{% endfor %}{% endwith %}{% endfilter %}{% endset %}{% endmacro %}{{ f() }}"
            .into(),
        "{% macro f(x=f()) %}{% endmacro %}{{ f() }}".into(),
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}".into(),
        "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}".into(),
        "{% for x in [1] recursive %}{{ [[x]] | map('join') | map('list') | map('join') | list }}{{ loop([x]) }}{% endfor %}".into(),
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}".into(),
        "{% set ns = namespace(x={}) %}{% for i in range(100000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}".into(),
        "{% set ns = namespace(x='') %}{% for i in range(100000) %}{% set ns.x = joiner(ns.x) %}{% endfor %}".into(),
        "{% set ns = namespace(x='') %}{% for i in range(100000) %}{% set ns.x = cycler(ns.x) %}{% endfor %}".into(),
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x.copy] %}{% endfor %}".into(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] | map('list') %}{% endfor %}".into(),
        format!("{{{{ {}1 }}}}", "not ".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{{{{ {} }}}}", "[".repeat(100_000)),
        format!("{{{{ {} }}}}", "{1:".repeat(100_000)),
        format!("{{{{ {} }}}}", "f(".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "1 if 1 else ".repeat(30_000)),
        format!("{{{{ 1{} }}}}", " if 1".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " and 1".repeat(50_000)),
        format!("{{{{ 1{} }}}}", "**1".repeat(100_000)),
        format!("{{{{ a{} }}}}", ".a".repeat(100_000)),
        format!("{{{{ a{} }}}}", "[0]".repeat(100_000)),
        format!("{{{{ a{} }}}}", "()".repeat(100_000)),
        format!("{{{{ a{} }}}}", "|e".repeat(100_000)),
        format!("{{{{ a{} }}}}", " is a(".repeat(50_000)),
        format!("{{% set {} = 1 %}}", "(".repeat(100_000)),
        "{% if 1 %}".repeat(40_000),
        "{% for x in y %}".repeat(30_000),
        "{% macro f() %}".repeat(30_000),
        "{% set x %}".repeat(40_000),
        format!("{{% filter {}e %}}{{% endfilter %}}", "e|".repeat(100_000)),
        format!("{{{{ '{}'.format(1) }}}}", "{:".repeat(10_000)),
        "{{ ('{:' * 10**5).format(1) }}".into(),
        format!("{{{{ 'a' | map({}'upper') | list }}}}", "'map',".repeat(1000)),
        format!("{{{{ 'a' | map({}'upper') | list }}}}", "'map',".repeat(499)),
        // Numbers.
        "{{ 10 ** 10 ** 10 }}".into(),
        "{{ 9999999999999999999999999999999999999999999 }}".into(),
        "{{ 2 ** 127 }}{{ -(2 ** 126) * 4 }}".into(),
        "{{ 1e308 * 10 | int }}{{ (10.0 ** 400) }}".into(),
        " ".repeat(600 << 10),
        // Names: as many as a template has room for, and long ones.
        format!("{{{{ dict({}) | length }}}}{{{{ nothing.x }}}}", numbered(58_000, "=1")),
        format!("{{% macro m({}) %}}{{% endmacro %}}{{{{ nothing.x }}}}", numbered(70_000, "").trim_end_matches(',')),
        format!(
            "{{% macro m({}) %}}{{% endmacro %}}{{% for i in range(1000) %}}{{{{ m({}) }}}}{{% endfor %}}",
            numbered(30_000, "").trim_end_matches(','),
            numbered(30_000, "=1")
        ),
        format!(
            "{{% macro m() %}}{{{{ kwargs | length }}}}{{% endmacro %}}{{% for i in range(1000) %}}{{{{ m({}) }}}}{{% endfor %}}",
            numbered(30_000, "=1")
        ),
        format!("{keyed}{{% for i in range(1000) %}}{{% set x = dict(**d) %}}{{% endfor %}}"),
        format!("{keyed}{{% for i in range(1000) %}}{{% set x = dict(a=1, b=2, c=3, **d) %}}{{% endfor %}}"),
        format!("{keyed}{{% for i in range(1000) %}}{{% set x = ('{{k39998}}' * 100000).format_map(d) %}}{{% endfor %}}"),
        format!("{keyed}{{% for i in range(1000) %}}{{% set x = ('{{k39998}}' * 100000).format(**d) %}}{{% endfor %}}"),
        format!("{keyed}{{% for i in range(1000) %}}{{% set x = '%(k39998)s' * 400000 % d %}}{{% endfor %}}"),
        format!("{keyed}{{% for i in range(1000) %}}{{% set x = ('%(k39998)s' * 400000) | format(**d) %}}{{% endfor %}}"),
        format!("{{% for i in range(100000) %}}{{{{ {name} }}}}{{% endfor %}}"),
        format!("{{% for i in range(100000) %}}{{{{ d.{name} }}}}{{% endfor %}}"),
        format!("{{% set d = {{'{name}': 1}} %}}{{% for i in range(100000) %}}{{% set x = d.{name} %}}{{% endfor %}}"),
        format!("{{% for i in range(100000) %}}{{% set {name} = 1 %}}{{% endfor %}}"),
        format!("{{{{ 1 | a{} }}}}", ".a".repeat(250_000)),
        format!("{{{{ 1 is a{} }}}}", ".a".repeat(250_000)),
        // What is printed.
        "{{ 'x' * 4000 * 5000 }}".into(),
        "{% for i in range(600) %}{{ 'x' * 1000 }}{% endfor %}".into(),
    ];
    // Work that makes nothing new: it is paid for by what it reads.
    let reading = [
        "'b'.count(a)",
        "'b'.find(a)",
        "'b'.rfind(a)",
        "'b'.replace(a, 'c')",
        "'b' | replace(a, 'c')",
        "'b'.split(a)",
        "'b'.rsplit(a)",
        "'b'.partition(a)",
        "'b'.rpartition(a)",
        "a in 'b'",
        "'b' in a",
        "a.count('ab')",
        "a.find('aab' * 100)",
        "a.rfind('baa' * 100)",
        "a.startswith((a ~ 'b', a))",
        "(b, b, b, b) | select('in', a) | list",
        "a.startswith((b,) * 1000)",
        "a.endswith(('b' ~ '',) * 1000)",
        "a.strip('a')",
        "a.strip(a)",
        "'b'.strip(a)",
        "a.lstrip('ba')",
        "a.rstrip('cba')",
        "a | trim('a')",
        "a.replace('a', ' ').strip()",
        "a | int",
        "a | int(base=16)",
        "a | float",
        "a is sameas(b)",
        "a == b",
        "a != b",
        "a < b",
        "a in [b]",
        "[a, b] | sort(case_sensitive=true) | length",
        "[a, b] | max(case_sensitive=true) | length",
        "[a, b] | unique(case_sensitive=true) | list | length",
        "[a] | unique(case_sensitive=true) | list | length",
        "[{'k': a}, {'k': b}] | groupby('k', case_sensitive=true) | length",
        "{a: 1}[b]",
        "{a: 1}.get(b)",
        "{'a': 1}[a]",
        "namespace(**{a: 1})",
        "'%(a)s' % {'a': 1, b: 2}",
        "a is lower",
        "a is upper",
        "a.isalpha()",
        "a.isdigit()",
        "a.isupper()",
        "a.istitle()",
        "a.isidentifier()",
        "a.casefold()",
        "a.upper()",
        "a | title",
        "a | wordcount",
        "a | length",
        "a.splitlines()",
        "a.split()",
        "a | truncate(9, end='')",
        "'x' | truncate(10**7, end=a)",
        "'x'.index('x', 0, 1) + a.find('b', 8 * 10**6)",
        "a[8999999]",
        "a | last",
    ];
    let repeated =
        |work: &str| format!("{long}{{% for i in range(100000) %}}{{% set x = {work} %}}{{% endfor %}}");
    let cases: Vec<String> = cases.into_iter().chain(reading.map(repeated)).collect();
    with_little_stack(move || {
        let (tokenizer, variables) = (tokenizer(), variables());
        let before = peak_memory();
        for source in &cases {
            let start = Instant::now();
            let shown: String = source.chars().take(150).collect();
            let error = render(source, &variables, &tokenizer).expect_err(&shown);
            let taken = start.elapsed();
            assert!(error.starts_with("model.gguf: key `tokenizer.chat_template`: "), "{shown}: {error}");
            assert!(error.contains("`: line ") || error.contains("KiB"), "{shown}: {error}");
            assert!(!error.contains('\n') && error.len() < 1000, "{shown}: {error}");
            assert!(taken < TIME, "{shown}: {taken:?}");
            let memory = peak_memory() - before;
            assert!(memory < MEMORY, "{shown}: {} MiB", memory >> 20);
        }
        // A long text that is not printed is none of them.
        let unprinted = "{% set x %}{{ 'x' * 4000 * 5000 }}{% endset %}{{ x | length }}";
        assert_eq!(render(unprinted, &variables, &tokenizer).as_deref(), Ok("20000000"));
    });
}

#[test]
fn what_is_rendered_is_bounded_and_what_is_not_printed_is_not() {
    let cases = [
        ("{{ 'x' * 1000 * 5000 }}", None),
        ("a{{ 'x' * 600000 }}", None),
        ("{% for i in range(600) %}{{ 'x' * 1000 }}{% endfor %}", None),
        ("{% macro m() %}{{ 'x' * 600000 }}{% endmacro %}{{ m() }}", None),
        ("{% filter upper %}{{ 'x' * 600000 }}{% endfilter %}", None),
        ("{% macro m() %}{{ 'x' * 600000 }}{% endmacro %}{{ m() | length }}", Some(6)),
        ("{% set x %}{{ 'x' * 1000 * 5000 }}{% endset %}{{ x | length }}", Some(7)),
        ("{{ 'x' * 500 * 1000 }}", Some(500_000)),
    ];
    let (tokenizer, variables) = (tokenizer(), variables());
    for (source, expected) in cases {
        let rendered = render(source, &variables, &tokenizer);
        match expected {
            Some(len) => assert_eq!(rendered.map(|text| text.len()), Ok(len), "{source}"),
            None => assert!(rendered.unwrap_err().contains("prints more than 51"), "{source}"),
        }
    }
    // A long conversation may be printed many times.
    let content = format!(r#"{{"c": "{}"}}"#, "x".repeat(100_000));
    let content: Data = serde_json::from_str(&content).unwrap();
    let rendered = render("{% for i in range(60) %}{{ c }}{% endfor %}", &content, &tokenizer);
    assert_eq!(rendered.map(|text| text.len()), Ok(6_000_000));
}

#[test]
fn the_line_of_an_error_is_the_templates() {
    let cases = [
        ("a\nb\n{{ 'x' * 10**9 }}", "line 3: "),
        ("{% if true %}\n\n  {{ messages|tojson(indent=10**9) }}\n{% endif %}", "line 3: "),
        ("{% macro f() %}\n{{ f() }}\n{% endmacro %}\n{{ f() }}", "line 2: "),
        ("a\r\nb\r{{ nothing.x }}", "line 3: "),
        ("{#\n\n#}{% raw %}\n{% endraw %}{{ nothing.x }}", "line 4: "),
        ("{{ [1,\n 2,\n nothing.x] }}", "line 3: "),
        ("a\n{% generation %}\n{{ 1 / 0 }}{% endgeneration %}", "line 3: "),
        ("a\n\n{% bad %}", "line 3: syntax error: unknown tag `bad`"),
        ("a\n{{ 'b }}", "line 2: syntax error"),
        ("{{ raise_exception('no\\nend \\u001b[31m\\u202e') }}", "no\\nend \\u{1b}[31m\\u{202e}"),
        ("{% include 'x' %}", "`include` needs other templates"),
    ];
    let (tokenizer, variables) = (tokenizer(), variables());
    for (source, expected) in cases {
        let error = render(source, &variables, &tokenizer).unwrap_err();
        assert!(error.contains(expected), "{source}: {error}");
    }
}

#[test]
fn long_conversations_are_no_trouble() {
    let message = |index: usize| {
        let role = ["user", "assistant"][index % 2];
        format!(r#"{{"role": "{role}", "content": "{}"}}"#, "word and ".repeat(100))
    };
    let messages: Vec<_> = (0..2000).map(message).collect();
    let variables: Data =
        serde_json::from_str(&format!(r#"{{"messages": [{}]}}"#, messages.join(","))).unwrap();
    let cases = [
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{{ m.content.split('x')[-1] }}{% endfor %}",
        // Quadratic: each message is copied as often as others follow.
        "{% set ns = namespace(t='') %}{% for m in messages[:300] %}{% set ns.t = ns.t ~ m.role ~ m.content %}{% endfor %}{{ ns.t }}",
        "{{ messages | tojson(indent=2) }}",
        "{% for m in messages[::-1] %}{{ loop.last }}{% if m == messages[-1] %}{{ m.content }}{% endif %}{% endfor %}",
    ];
    let tokenizer = tokenizer();
    for source in cases {
        let start = Instant::now();
        render(source, &variables, &tokenizer).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert!(start.elapsed() < TIME, "{source}: {:?}", start.elapsed());
    }
}
