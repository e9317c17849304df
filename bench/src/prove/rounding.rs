//! Rounding to the nearest value, what the quantizers of formats with zero points are held against.

/// The squared error of rounding to the nearest of 16 values, as GPTQ and AWQ have it: the range of the weights of a group, 0
/// among them, becomes that of the values. `scale` and `zero` are what is stored for a range and for a zero point.
pub fn to_nearest(
    weights: &[f32],
    importance: Option<&[f32]>,
    size: usize,
    scale: &dyn Fn(f64) -> f64,
    zero: &dyn Fn(f64) -> f64,
) -> f64 {
    let groups: Vec<(f64, f64)> = weights
        .chunks(size)
        .map(|group| {
            let least = group.iter().fold(0.0_f64, |least, &w| least.min(w.into()));
            let scale = scale(range(group));
            (scale, if scale == 0.0 { 0.0 } else { zero(-least / scale) })
        })
        .collect();
    error(weights, importance, |e, w| {
        let (scale, zero) = groups[e / size];
        let code = if scale == 0.0 { 0.0 } else { (w / scale + zero).round().clamp(0.0, 15.0) };
        scale * (code - zero)
    })
}

/// The squared error of what weights become.
pub fn error(weights: &[f32], importance: Option<&[f32]>, becomes: impl Fn(usize, f64) -> f64) -> f64 {
    let square = |(e, &w): (usize, &f32)| {
        let importance = importance.map_or(1.0, |importance| f64::from(importance[e]));
        importance * (becomes(e, w.into()) - f64::from(w)).powi(2)
    };
    weights.iter().enumerate().map(square).sum()
}

/// How far the smallest and the largest weight are apart, 0 among them.
pub fn range(weights: &[f32]) -> f64 {
    let (least, most) = weights
        .iter()
        .fold((0.0_f64, 0.0_f64), |(least, most), &w| (least.min(w.into()), most.max(w.into())));
    most - least
}

/// The largest magnitude of a weight.
pub fn furthest(weights: &[f32]) -> f64 {
    weights.iter().fold(0.0, |most, &w| most.max(f64::from(w).abs()))
}
