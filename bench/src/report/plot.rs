//! The report to look at: a roofline plot in SVG.
//!
//! Both axes are logarithmic. Bandwidths rise to the right, by multiply-accumulates per byte; peaks are
//! level. All cells of a format and operation have the same intensity, so that its instruction sets stand side by side.

use std::fmt::Write;

use quantloom_kernels::Isa;
use svg::node::element::{Circle, Group, Line, Path, Rectangle, Text, Title};
use svg::{Document, Node};

use super::markdown::{percent, rate};
use super::{Measured, Report, Row};
use crate::{Operation, Place};

const WIDTH: f64 = 1120.0;
const HEIGHT: f64 = 720.0;
/// Of the plot inside the picture.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 880.0;
const TOP: f64 = 108.0;
const BOTTOM: f64 = 640.0;

/// Okabe and Ito's colours, which also the colour-blind tell apart; one for each instruction set in turn.
const COLOURS: [&str; 6] = ["#7A7A7A", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00"];
const INK: &str = "#222222";
const FAINT: &str = "#E2E2E2";
const ROOF: &str = "#555555";

/// Between instruction sets of one format.
const STEP: f64 = 13.0;
/// Between lines of text.
const LEADING: f64 = 16.0;

/// A logarithmic axis.
#[derive(Clone, Copy)]
struct Axis {
    values: [f64; 2],
    pixels: [f64; 2],
    /// Of the numbers beside it, up to a power of ten.
    digits: &'static [f64],
}

impl Axis {
    fn pixel(self, value: f64) -> f64 {
        let [low, high] = self.values.map(f64::ln);
        let [start, end] = self.pixels;
        start + (value.ln() - low) / (high - low) * (end - start)
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        let [low, high] = self.values;
        let powers = low.log10().floor() as i32..=high.log10().floor() as i32;
        // Powers of ten are exact where they are whole, and so then are the decimals.
        let scaled = |digit: f64, power: i32| {
            let scale = 10.0_f64.powi(power.abs());
            if power < 0 { digit / scale } else { digit * scale }
        };
        let ticks = powers.flat_map(move |power| self.digits.iter().map(move |&digit| scaled(digit, power)));
        ticks.filter(move |tick| (low..=high).contains(tick))
    }
}

/// All products under the roof.
pub fn roofline(report: &Report) -> String {
    let products: Vec<(&Row, &Measured)> = report
        .cells
        .iter()
        .filter(|row| row.operation.is_product())
        .filter_map(|row| row.outcome.measured().map(|measured| (row, measured)))
        .collect();
    let peaks: Vec<(Isa, f64)> = report
        .peaks
        .iter()
        .filter_map(|peak| Some((peak.isa, peak.outcome.measured()?.gmac_per_second.median)))
        .collect();
    let bandwidths: Vec<(Place, f64)> =
        report.bandwidths.iter().map(|bandwidth| (bandwidth.place, bandwidth.gb_per_second.median)).collect();
    let highest = peaks.iter().map(|&(_, peak)| peak).fold(0.0, f64::max);

    // Wide enough that a lone format has a slope to stand on.
    let intensities = || products.iter().map(|(row, _)| row.work_per_byte);
    let x = Axis {
        values: [intensities().fold(1.0, f64::min) / 1.4, intensities().fold(2.0, f64::max) * 1.2],
        pixels: [LEFT, RIGHT],
        digits: &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
    };
    let rates = products.iter().map(|(_, measured)| measured.rate.median);
    let starts = bandwidths.iter().map(|(_, bandwidth)| bandwidth * x.values[0]);
    let y = Axis {
        values: [rates.chain(starts).fold(highest, f64::min) / 1.6, highest * 1.6],
        pixels: [BOTTOM, TOP],
        digits: &[1.0, 2.0, 5.0],
    };

    let mut picture = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, HEIGHT))
        .set("width", WIDTH)
        .set("height", HEIGHT)
        .set("font-family", "Helvetica, Arial, sans-serif")
        .set("font-size", 12)
        .set("fill", INK)
        .add(Rectangle::new().set("width", WIDTH).set("height", HEIGHT).set("fill", "white"))
        .add(text(LEFT, 34.0, "Kernels under the machine's roofline").set("font-size", 20))
        .add(text(LEFT, 56.0, &format!("{}, one thread, {}", report.machine.cpu, report.machine.compiler)));
    axes(&mut picture, x, y);
    roofs(&mut picture, x, y, &bandwidths, &peaks);
    formats(&mut picture, x, &products);
    for (row, measured) in &products {
        picture.append(point(row, measured, x, y));
    }
    legend(&mut picture, &products);
    picture.to_string()
}

fn axes(picture: &mut Document, x: Axis, y: Axis) {
    let label = |value: f64| value.to_string();
    for tick in x.ticks() {
        let at = x.pixel(tick);
        picture.append(line([at, BOTTOM], [at, BOTTOM + 5.0], INK));
        picture.append(text(at, BOTTOM + 20.0, &label(tick)).set("text-anchor", "middle"));
    }
    for tick in y.ticks() {
        let at = y.pixel(tick);
        picture.append(line([LEFT, at], [RIGHT, at], FAINT));
        picture.append(text(LEFT - 8.0, at + 4.0, &label(tick)).set("text-anchor", "end"));
    }
    picture.append(line([LEFT, TOP], [LEFT, BOTTOM], INK));
    picture.append(line([LEFT, BOTTOM], [RIGHT, BOTTOM], INK));
    let middle = (LEFT + RIGHT) / 2.0;
    let across = "multiply-accumulates per byte of weights";
    picture.append(text(middle, BOTTOM + 40.0, across).set("text-anchor", "middle"));
    let middle = (TOP + BOTTOM) / 2.0;
    let turned = text(22.0, middle, "GMAC/s").set("text-anchor", "middle");
    picture.append(turned.set("transform", format!("rotate(-90 22 {middle})")));
}

/// Bandwidths up to the highest peak, and peaks from the highest bandwidth on.
fn roofs(picture: &mut Document, x: Axis, y: Axis, bandwidths: &[(Place, f64)], peaks: &[(Isa, f64)]) {
    let highest = peaks.iter().map(|&(_, peak)| peak).fold(0.0, f64::max);
    let fastest = bandwidths.iter().map(|&(_, bandwidth)| bandwidth).fold(0.0, f64::max);
    for &(place, bandwidth) in bandwidths {
        let (start, end) = (x.values[0], (highest / bandwidth).min(x.values[1]));
        let from = [x.pixel(start), y.pixel(bandwidth * start)];
        let to = [x.pixel(end), y.pixel(bandwidth * end)];
        picture.append(line(from, to, ROOF).set("stroke-width", 1.5));
        let slope = (to[1] - from[1]).atan2(to[0] - from[0]).to_degrees();
        let name = format!("{} {} GB/s", place.name(), rate(bandwidth));
        let along = text(from[0] + 10.0, from[1] - 6.0, &name).set("fill", ROOF);
        picture.append(along.set("transform", format!("rotate({slope:.2} {:.1} {:.1})", from[0], from[1])));
    }
    let mut peaks = peaks.to_vec();
    peaks.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let mut free = f64::NEG_INFINITY;
    for (isa, peak) in peaks {
        let at = y.pixel(peak);
        let start = x.pixel((peak / fastest).max(x.values[0]));
        picture.append(line([start, at], [RIGHT, at], colour(isa)).set("stroke-width", 1.5));
        // Peaks that are close push the names of the lower ones down.
        let label_at = at.max(free);
        free = label_at + LEADING;
        let name = format!("{isa} {} GMAC/s", rate(peak));
        picture.append(text(RIGHT + 8.0, label_at + 4.0, &name).set("fill", colour(isa)));
    }
}

/// Where the formats stand, by name.
fn formats(picture: &mut Document, x: Axis, products: &[(&Row, &Measured)]) {
    let mut places: Vec<(f64, String)> = Vec::new();
    for (row, _) in products {
        match places.iter_mut().find(|(at, _)| *at == row.work_per_byte) {
            None => places.push((row.work_per_byte, row.format.into())),
            Some((_, names)) if names.split(", ").any(|name| name == row.format) => {}
            Some((_, names)) => write!(names, ", {}", row.format).expect("strings take everything"),
        }
    }
    places.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    // Names go on the lowest of three lines that has room; on the highest all the same.
    let mut free = [f64::NEG_INFINITY; 2];
    for (work_per_byte, names) in places {
        let at = x.pixel(work_per_byte);
        let half = 4.0 + 4.2 * names.chars().count() as f64;
        let level = free.iter().position(|&free| free < at - half).unwrap_or(free.len());
        if let Some(free) = free.get_mut(level) {
            *free = at + half;
        }
        picture.append(line([at, TOP], [at, BOTTOM], FAINT));
        let name = text(at, TOP - 6.0 - LEADING * level as f64, &names);
        picture.append(name.set("text-anchor", "middle").set("font-weight", "bold"));
    }
}

/// A mark that names its cell where a mouse rests on it.
fn point(row: &Row, measured: &Measured, x: Axis, y: Axis) -> Group {
    let Measured { rate: gmac, gb_per_second: gb, limit, share, .. } = measured;
    let aside = index(row.isa) as f64 - (Isa::ALL.len() - 1) as f64 / 2.0;
    let at = [x.pixel(row.work_per_byte) + STEP * aside, y.pixel(gmac.median)];
    let title = format!(
        "{}: {} GMAC/s, {} GB/s, {} of {limit}",
        row.name,
        rate(gmac.median),
        rate(gb.median),
        percent(*share)
    );
    let place = (row.operation == Operation::Gemv).then_some(row.place);
    Group::new().set("class", "cell").add(Title::new(title)).add(mark(place, at, colour(row.isa)))
}

/// A mark for each place that a matrix is read from, and one for a single row: outlines, which show through
/// each other where cells are equally fast.
fn mark(place: Option<Place>, [x, y]: [f64; 2], colour: &str) -> Group {
    let polygon = |corners: &[[f64; 2]]| {
        let corners: Vec<String> =
            corners.iter().map(|[dx, dy]| format!("{:.1} {:.1}", x + dx, y + dy)).collect();
        Box::<dyn Node>::from(Path::new().set("d", format!("M {} Z", corners.join(" L "))))
    };
    let outline = match place {
        None => polygon(&[[0.0, -6.0], [5.0, 0.0], [0.0, 6.0], [-5.0, 0.0]]),
        Some(Place::L1) => {
            Circle::new().set("cx", format!("{x:.1}")).set("cy", format!("{y:.1}")).set("r", 4.8).into()
        }
        Some(Place::L2) => polygon(&[[-4.5, -4.5], [4.5, -4.5], [4.5, 4.5], [-4.5, 4.5]]),
        Some(Place::Memory) => polygon(&[[0.0, -5.5], [5.5, 4.5], [-5.5, 4.5]]),
    };
    let group = Group::new().set("fill", colour).set("fill-opacity", 0.2);
    group.set("stroke", colour).set("stroke-width", 1.4).add(outline)
}

/// Colours and marks that are there, in a row below.
fn legend(picture: &mut Document, products: &[(&Row, &Measured)]) {
    let baseline = BOTTOM + 68.0;
    let mut at = LEFT;
    let mut entry = |mark: Box<dyn Node>, name: &str| {
        let moved = Group::new().set("transform", format!("translate({at:.1} {:.1})", baseline - 4.0));
        picture.append(moved.add(mark));
        picture.append(text(at + 11.0, baseline, name));
        at += 36.0 + 6.6 * name.chars().count() as f64;
    };
    for &isa in Isa::ALL.iter().filter(|&&isa| products.iter().any(|(row, _)| row.isa == isa)) {
        let square = Rectangle::new().set("x", -6).set("y", -6).set("width", 12).set("height", 12);
        entry(square.set("fill", colour(isa)).into(), isa.name());
    }
    for (place, name) in [
        (None, "dot, one row in L1"),
        (Some(Place::L1), "gemv, l1"),
        (Some(Place::L2), "gemv, l2"),
        (Some(Place::Memory), "gemv, memory"),
    ] {
        entry(mark(place, [0.0; 2], INK).into(), name);
    }
}

fn index(isa: Isa) -> usize {
    Isa::ALL.iter().position(|&other| other == isa).unwrap_or(0)
}

fn colour(isa: Isa) -> &'static str {
    COLOURS[index(isa) % COLOURS.len()]
}

fn text(x: f64, y: f64, words: &str) -> Text {
    Text::new(words).set("x", format!("{x:.1}")).set("y", format!("{y:.1}"))
}

fn line([x1, y1]: [f64; 2], [x2, y2]: [f64; 2], colour: &str) -> Line {
    let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(|at| format!("{at:.1}"));
    Line::new().set("x1", x1).set("y1", y1).set("x2", x2).set("y2", y2).set("stroke", colour)
}
