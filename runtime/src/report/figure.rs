//! The report to look at: quality against size and against speed, in SVG.
//!
//! Two plots share the vertical axis, which is logarithmic and on which lower is better: KL divergence, or, where no
//! text was run, the error of weights. In each a broken line joins the types that no other beats in both respects, and
//! thin lines through a point are its standard error and the quartiles of its speed. Colours stand in a style sheet, which has others for a dark page.

use svg::node::element::{Circle, Group, Line, Polyline, Rectangle, Style, Text, Title};
use svg::{Document, Node};

use super::markdown::digits;
use super::{Figure, Report, Row};

const WIDTH: f64 = 1040.0;
const HEIGHT: f64 = 540.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 448.0;
/// From left to right, of each plot.
const PLOTS: [[f64; 2]; 2] = [[84.0, 532.0], [572.0, 1020.0]];

const FONT: f64 = 13.0;
/// Of a letter, or somewhat more.
const LETTER: f64 = 7.8;
/// Of a name's box.
const LEADING: f64 = 16.0;
/// Of a point.
const RADIUS: f64 = 4.5;

/// Okabe and Ito's blue and orange, which also the colour-blind tell apart; the dark ones are their lighter versions.
const STYLE: &str = "
.paper { fill: #ffffff }
.ink { fill: #222222 }
.faint { fill: #666666 }
.axis { stroke: #222222 }
.grid { stroke: #e2e2e2 }
.point { fill: #0072b2 }
.spread { stroke: #0072b2 }
.best { stroke: #d55e00; fill: none }
.leader { stroke: #999999 }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117 }
.ink { fill: #e6e6e6 }
.faint { fill: #a0a0a0 }
.axis { stroke: #e6e6e6 }
.grid { stroke: #30363d }
.point { fill: #56b4e9 }
.spread { stroke: #56b4e9 }
.best { stroke: #e69f00; fill: none }
.leader { stroke: #777777 }
}
";

/// What is less is as good as nothing: the 16 bits of the base's logits hide it.
const LEAST: f64 = 1e-6;

/// A type in a plot.
struct Mark<'a> {
    name: &'a str,
    /// What it reaches.
    value: f64,
    at: [f64; 2],
    /// From where to where it may be, across and along.
    spreads: [[f64; 2]; 2],
}

impl Mark<'_> {
    /// The lines through its point.
    fn bars(&self) -> [[[f64; 2]; 2]; 2] {
        let ([x, y], [across, along]) = (self.at, self.spreads);
        [across.map(|x| [x, y]), along.map(|y| [x, y])]
    }
}

/// A box around a point, a name or a spread: left, top, right, bottom.
#[derive(Clone, Copy)]
struct Area([f64; 4]);

impl Area {
    fn around([x, y]: [f64; 2], [width, height]: [f64; 2]) -> Self {
        Self([x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0])
    }

    fn overlaps(self, Self([left, top, right, bottom]): Self) -> bool {
        let Self(ours) = self;
        ours[0] < right && left < ours[2] && ours[1] < bottom && top < ours[3]
    }

    fn contains(self, Self([left, top, right, bottom]): Self) -> bool {
        let Self(ours) = self;
        ours[0] <= left && ours[1] <= top && right <= ours[2] && bottom <= ours[3]
    }
}

/// From values to pixels.
#[derive(Clone, Copy)]
struct Axis {
    values: [f64; 2],
    pixels: [f64; 2],
    is_logarithmic: bool,
}

impl Axis {
    /// All `values` with some room on both sides, on a scale that begins and ends wherever that is.
    fn linear(values: impl Iterator<Item = f64> + Clone, pixels: [f64; 2]) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        // A lone value stands in the middle.
        let room = if high > low { 0.1 * (high - low) } else { 0.5 * high };
        Self { values: [low - room, high + room], pixels, is_logarithmic: false }
    }

    /// All `values` from [`LEAST`] up, ten times from end to end at least.
    fn logarithmic(values: impl Iterator<Item = f64> + Clone, pixels: [f64; 2]) -> Self {
        let positive = values.filter(|value| *value >= LEAST && value.is_finite());
        let low = positive.clone().fold(f64::INFINITY, f64::min);
        let high = positive.fold(0.0, f64::max);
        // Of nothing but zeros.
        let (low, high) = if high > 0.0 { (low / 1.6, high * 1.6) } else { (0.001, 0.01) };
        let wider = (10.0 * low / high).max(1.0).sqrt();
        Self { values: [low / wider, high * wider], pixels, is_logarithmic: true }
    }

    /// Values beyond the axis stand at its end.
    fn pixel(self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_logarithmic { value.ln() } else { value };
        let ([low, high], [start, end]) = (self.values, self.pixels);
        let share = (scale(value.clamp(low, high)) - scale(low)) / (scale(high) - scale(low));
        start + share * (end - start)
    }

    fn contains(self, value: f64) -> bool {
        (self.values[0]..=self.values[1]).contains(&value)
    }

    /// Round numbers.
    fn ticks(self) -> Vec<f64> {
        let [low, high] = self.values;
        // Powers of ten are exact where they are whole, and so then are the decimals.
        let scaled = |digit: f64, power: i32| {
            let scale = 10.0_f64.powi(power.abs());
            if power < 0 { digit / scale } else { digit * scale }
        };
        let all: Vec<f64> = if self.is_logarithmic {
            let powers = low.log10().floor() as i32..=high.log10().floor() as i32;
            // Of many decades only the powers.
            let steps: &[f64] = if high / low < 1e4 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            powers.flat_map(|power| steps.iter().map(move |&step| scaled(step, power))).collect()
        } else {
            let power = ((high - low) / 5.0).log10().floor() as i32;
            let steps = [(1.0, power), (2.0, power), (5.0, power), (1.0, power + 1)];
            let width = |(digit, power)| scaled(digit, power);
            let (digit, power) =
                steps.into_iter().find(|&step| (high - low) / width(step) <= 8.0).unwrap_or((1.0, power + 1));
            let first = (low / width((digit, power))).ceil() as i64;
            let last = (high / width((digit, power))).floor() as i64;
            (first..=last).map(|n| scaled(n as f64 * digit, power)).collect()
        };
        all.into_iter().filter(|&tick| self.contains(tick)).collect()
    }
}

/// What is plotted: from left to right, and whether more of it is better.
struct Plot {
    name: &'static str,
    is_more_better: bool,
    /// The value, and from where to where it may be.
    value: fn(&Row) -> (f64, [f64; 2]),
}

const AGAINST: [Plot; 2] = [
    Plot {
        name: "size of the file, bits per weight",
        is_more_better: false,
        value: |row| (row.size.bits_per_weight, [row.size.bits_per_weight; 2]),
    },
    Plot {
        name: "decoding, tokens per second",
        is_more_better: true,
        value: |row| {
            let Figure { median, low, high, .. } = row.speed.decode.tokens_per_second;
            (median, [low, high])
        },
    },
];

/// How good a type is: less is better. The error is 0 where it is not known.
fn quality(row: &Row) -> (f64, f64) {
    match &row.divergence {
        Some(divergence) => {
            let estimate = divergence.means.kl_divergence;
            (estimate.value, if estimate.error.is_finite() { estimate.error } else { 0.0 })
        }
        None => (row.error.relative_rms, 0.0),
    }
}

/// Quality against size and against speed, a point for each type.
pub fn figure(report: &Report) -> String {
    let rows = &report.types;
    let y = Axis::logarithmic(rows.iter().map(|row| quality(row).0), [BOTTOM, TOP]);
    let mut picture = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, HEIGHT))
        .set("width", WIDTH)
        .set("height", HEIGHT)
        .set("font-family", "Helvetica, Arial, sans-serif")
        .set("font-size", FONT)
        .add(Style::new(STYLE))
        .add(Rectangle::new().set("class", "paper").set("width", WIDTH).set("height", HEIGHT));
    heading(&mut picture, report);
    let has_text = rows.iter().any(|row| row.divergence.is_some());
    let measure = if has_text {
        "KL divergence from the base, nats per token"
    } else {
        "relative RMS error of weights"
    };
    let middle = (TOP + BOTTOM) / 2.0;
    let turned = text([22.0, middle], measure, "ink").set("text-anchor", "middle");
    picture.append(turned.set("transform", format!("rotate(-90 22 {middle})")));
    for (plot, pixels) in AGAINST.iter().zip(PLOTS) {
        let x = Axis::linear(rows.iter().flat_map(|row| (plot.value)(row).1), pixels);
        let mut group = Group::new().set("class", "plot");
        axes(&mut group, x, y, plot.name, pixels == PLOTS[0]);
        let marks: Vec<Mark<'_>> = rows
            .iter()
            .map(|row| {
                let ((value, error), (across, spread)) = (quality(row), (plot.value)(row));
                let along = [value + error, (value - error).max(0.0)];
                Mark {
                    name: &row.name,
                    value,
                    at: [x.pixel(across), y.pixel(value)],
                    spreads: [spread.map(|end| x.pixel(end)), along.map(|end| y.pixel(end))],
                }
            })
            .collect();
        let best = best(&marks, plot.is_more_better);
        join(&mut group, &best);
        types(&mut group, &marks, &best, x);
        picture.append(group);
    }
    legend(&mut picture, report.rounds, has_text);
    picture.to_string()
}

/// What was compared with what.
fn heading(picture: &mut Document, report: &Report) {
    let base = &report.base;
    let names = base.matrices.iter().map(|share| share.ty).collect::<Vec<_>>().join(", ");
    let size = format!("{} bits per weight", digits(base.size.bits_per_weight));
    let perplexity = base
        .perplexity
        .as_ref()
        .map(|text| format!(", perplexity {:.2} on {} tokens", text.perplexity.value, text.scored));
    let speed = format!(
        "decoding {} tokens per second on {} threads, {}",
        digits(base.speed.decode.tokens_per_second.median),
        report.threads,
        report.isa
    );
    let name = base.path.file_name().unwrap_or_default().to_string_lossy();
    let left = PLOTS[0][0];
    picture.append(text([left, 24.0], &shortened(&name), "ink").set("font-weight", "bold"));
    let about = format!("base: {names}, {size}{}, {speed}", perplexity.unwrap_or_default());
    picture.append(text([left, 44.0], &about, "faint"));
}

/// What lines mean.
fn legend(picture: &mut Document, rounds: usize, has_text: bool) {
    let [left, baseline] = [PLOTS[0][0], HEIGHT - 16.0];
    let mut group = Group::new().set("class", "legend");
    join(&mut group, &[[left, baseline - 4.0], [left + 28.0, baseline - 4.0]]);
    let bars = match (has_text, rounds) {
        (true, 1) => "; bars: standard error of the divergence".into(),
        (true, _) => {
            format!("; bars: standard error of the divergence, quartiles of the speed in {rounds} rounds")
        }
        (false, 1) => String::new(),
        (false, _) => format!("; bars: quartiles of the speed in {rounds} rounds"),
    };
    let words = format!("no other type is better in both{bars}");
    group.append(text([left + 36.0, baseline], &words, "faint"));
    picture.append(group);
}

/// As much of a name as there is room for; what XML can't hold stands as its escape.
fn shortened(name: &str) -> String {
    const MOST: usize = 100;
    let name: String = name
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

fn axes(group: &mut Group, x: Axis, y: Axis, name: &str, has_numbers: bool) {
    let [left, right] = x.pixels;
    for tick in y.ticks() {
        let at = y.pixel(tick);
        group.append(line([left, at], [right, at], "grid"));
        if has_numbers {
            let number = text([left - 8.0, at + 4.0], &tick.to_string(), "ink");
            group.append(number.set("text-anchor", "end"));
        }
    }
    for tick in x.ticks() {
        let at = x.pixel(tick);
        group.append(line([at, TOP], [at, BOTTOM], "grid"));
        group.append(line([at, BOTTOM], [at, BOTTOM + 5.0], "axis"));
        let number = text([at, BOTTOM + 20.0], &tick.to_string(), "ink");
        group.append(number.set("text-anchor", "middle"));
    }
    group.append(line([left, TOP], [left, BOTTOM], "axis"));
    group.append(line([left, BOTTOM], [right, BOTTOM], "axis"));
    let name = text([(left + right) / 2.0, BOTTOM + 44.0], name, "ink");
    group.append(name.set("text-anchor", "middle"));
}

/// The points of the types that no other beats in both respects, from one end to the other.
fn best(marks: &[Mark<'_>], is_more_better: bool) -> Vec<[f64; 2]> {
    let mut sorted: Vec<&Mark<'_>> = marks.iter().collect();
    sorted.sort_by(|a, b| {
        let along = a.at[0].total_cmp(&b.at[0]);
        let along = if is_more_better { along.reverse() } else { along };
        along.then(a.value.total_cmp(&b.value))
    });
    let mut least = f64::INFINITY;
    sorted.retain(|mark| {
        let is_better = mark.value < least;
        least = least.min(mark.value);
        is_better
    });
    sorted.iter().map(|mark| mark.at).collect()
}

fn join(group: &mut Group, best: &[[f64; 2]]) {
    let points: Vec<String> = best.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
    let joined = Polyline::new().set("class", "best").set("points", points.join(" "));
    group.append(joined.set("stroke-width", 1.5).set("stroke-dasharray", "5 4"));
}

/// Areas that the line through `best` is in.
fn along(best: &[[f64; 2]]) -> impl Iterator<Item = Area> {
    /// Of each piece: closer together than names are high.
    const PARTS: u32 = 64;
    best.windows(2).flat_map(|ends| {
        (0..=PARTS).map(move |part| {
            let share = f64::from(part) / f64::from(PARTS);
            Area::around([0, 1].map(|i| ends[0][i] + share * (ends[1][i] - ends[0][i])), [2.0; 2])
        })
    })
}

/// A point with its name for each type, so that no name lies on another, or on a point.
fn types(group: &mut Group, marks: &[Mark<'_>], best: &[[f64; 2]], x: Axis) {
    let whole = Area([x.pixels[0] + 2.0, TOP - LEADING, x.pixels[1], BOTTOM - 1.0]);
    let points: Vec<Area> = marks.iter().map(|mark| Area::around(mark.at, [2.0 * RADIUS + 3.0; 2])).collect();
    let spreads = marks
        .iter()
        .flat_map(Mark::bars)
        .map(|[[left, top], [right, bottom]]| Area([left - 3.0, top - 3.0, right + 3.0, bottom + 3.0]));
    let obstacles: Vec<Area> = points.iter().copied().chain(spreads).chain(along(best)).collect();
    let mut names: Vec<Area> = Vec::new();
    for mark in marks {
        // On a logarithmic axis there is no place for them.
        let label = match mark.value {
            value if !value.is_finite() => format!("{} (∞)", mark.name),
            value if value < LEAST => format!("{} (0)", mark.name),
            _ => mark.name.to_owned(),
        };
        let size = [LETTER * label.chars().count() as f64, LEADING];
        let free = |area: &Area| whole.contains(*area) && !names.iter().any(|name| name.overlaps(*area));
        let clears_all =
            |area: &Area| free(area) && !obstacles.iter().any(|obstacle| obstacle.overlaps(*area));
        let clears_points = |area: &Area| free(area) && !points.iter().any(|point| point.overlaps(*area));
        let places = || places(mark.at, size);
        let (distance, direction, area) = places()
            .find(|(.., area)| clears_all(area))
            .or_else(|| places().find(|(.., area)| clears_points(area)))
            .or_else(|| places().find(|(.., area)| free(area)))
            .unwrap_or_else(|| places().next().expect("there are some"));
        names.push(area);

        let [at_x, at_y] = mark.at;
        let Area([left, top, right, bottom]) = area;
        let mut one = Group::new().set("class", "type");
        one.append(Title::new(format!("{}: {}", mark.name, digits(mark.value))));
        for [start, end] in mark.bars().into_iter().filter(|[start, end]| start != end) {
            one.append(line(start, end, "spread").set("stroke-width", 1.2));
        }
        if distance > NEAR {
            // To the nearest side or corner of the name.
            let side = |direction: f64, [low, high]: [f64; 2]| match direction {
                d if d > 0.5 => low,
                d if d < -0.5 => high,
                _ => (low + high) / 2.0,
            };
            let end = [side(direction[0], [left, right]), side(direction[1], [top, bottom])];
            one.append(line(mark.at, end, "leader"));
        }
        let point = Circle::new().set("class", "point").set("cx", format!("{at_x:.1}"));
        one.append(point.set("cy", format!("{at_y:.1}")).set("r", RADIUS));
        let middle = [(left + right) / 2.0, (top + bottom) / 2.0 + 4.5];
        one.append(text(middle, &label, "ink").set("text-anchor", "middle"));
        group.append(one);
    }
}

/// Between a point and its name where there is room.
const NEAR: f64 = 7.0;

/// Places for a name of this size: around its point, ever farther away. Distance, direction, and the place.
fn places(at: [f64; 2], size: [f64; 2]) -> impl Iterator<Item = (f64, [f64; 2], Area)> {
    const DIRECTIONS: [[f64; 2]; 8] = [
        [1.0, 0.0],
        [-1.0, 0.0],
        [0.0, -1.0],
        [0.0, 1.0],
        [1.0, -1.0],
        [1.0, 1.0],
        [-1.0, -1.0],
        [-1.0, 1.0],
    ];
    (0..24).map(|ring| NEAR + 9.0 * f64::from(ring)).flat_map(move |distance| {
        DIRECTIONS.into_iter().map(move |direction| {
            let centre = [0, 1].map(|i| at[i] + direction[i] * (distance + size[i] / 2.0));
            (distance, direction, Area::around(centre, size))
        })
    })
}

fn text([x, y]: [f64; 2], words: &str, class: &str) -> Text {
    Text::new(words).set("x", format!("{x:.1}")).set("y", format!("{y:.1}")).set("class", class)
}

fn line([x1, y1]: [f64; 2], [x2, y2]: [f64; 2], class: &str) -> Line {
    let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(|at| format!("{at:.1}"));
    Line::new().set("x1", x1).set("y1", y1).set("x2", x2).set("y2", y2).set("class", class)
}
