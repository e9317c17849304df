//! What a block can hold, found from its layout by hand alone: numbers and bits are changed one by one, which shows whose
//! code, scale or minimum hangs on which; then each of these goes through all that its bits can be.

use super::inputs::{Bytes, Inputs};
use super::number::{Level, Number};
use super::search::{Group, Holds, Numbers, Product, Signs, Values};
use super::{Subject, Weight};

/// The most bits of which all values are tried.
const BITS: usize = 16;

/// Why a weight is not finite though all numbers that are known are 1.
const NOT_LISTED: &str = "its subject lists not all numbers of a block";

/// What [`Subject::holds`] says.
pub fn find(subject: &Subject) -> Result<Holds, String> {
    let probe = Probe::new(subject)?;
    let (values, signs) = probe.values()?;
    let scale = probe.product(Part::Scale)?;
    let has_minimum = probe.weights().any(|weight| weight.minimum != 0.0);
    let minimum = if has_minimum { Some(probe.product(Part::Minimum)?) } else { None };
    Ok(Holds { values, signs, scale, minimum })
}

/// How many bits a product of a block's numbers has, the largest of its scale and of its minimum.
pub fn product_bits(subject: &Subject) -> u32 {
    let bases = bases(subject, 4);
    let effects: Vec<Effect> =
        subject.numbers.iter().map(|&number| effect_of_number(subject, &bases, number)).collect();
    let bits = |part: Part, e: usize| -> u32 {
        let has = |(effect, number): (&Effect, &Number)| {
            if effect.on(part).contains(&e) { number.significant_bits() } else { 0 }
        };
        effects.iter().zip(subject.numbers).map(has).sum()
    };
    let weights = 0..subject.format.block_len;
    weights.flat_map(|e| [bits(Part::Scale, e), bits(Part::Minimum, e)]).max().unwrap_or(0)
}

/// What a weight is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Code,
    Scale,
    Minimum,
}

impl Part {
    const ALL: [Self; 3] = [Self::Code, Self::Scale, Self::Minimum];

    fn of(self, weight: &Weight) -> f64 {
        // There is one zero.
        0.0 + match self {
            Self::Code => f64::from(weight.code),
            Self::Scale => weight.scale,
            Self::Minimum => weight.minimum,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Scale => "scale",
            Self::Minimum => "minimum",
        }
    }
}

/// Which weights a change reaches.
struct Effect {
    /// Those whose code, scale and minimum change, in ascending order.
    weights: [Vec<usize>; 3],
    /// Whether every code that changed became its negative.
    negates: bool,
}

impl Effect {
    fn on(&self, part: Part) -> &[usize] {
        &self.weights[part as usize]
    }
}

/// A block with numbers of 1, all else random, and the weights that it holds.
type Base = (Vec<u8>, Vec<Weight>);

fn bases(subject: &Subject, count: usize) -> Vec<Base> {
    let inputs = Inputs::plain(subject);
    let block = |seed: usize| {
        let block = inputs.blocks(1, seed as u64, Level::One, Bytes::Random);
        let weights = (subject.weights)(&block);
        (block, weights)
    };
    (0..count).map(block).collect()
}

fn effect(subject: &Subject, bases: &[Base], change: impl Fn(&mut [u8])) -> Effect {
    let mut reached = vec![[false; 3]; subject.format.block_len];
    let mut negates = true;
    for (block, before) in bases {
        let mut block = block.clone();
        change(&mut block);
        for ((reached, before), after) in reached.iter_mut().zip(before).zip((subject.weights)(&block)) {
            for part in Part::ALL {
                reached[part as usize] |= part.of(before) != part.of(&after);
            }
            negates &= after.code == before.code || after.code == -before.code;
        }
    }
    let weights = Part::ALL.map(|part| (0..reached.len()).filter(|&e| reached[e][part as usize]).collect());
    Effect { weights, negates }
}

/// That of a number that becomes 0, or all but 0.
fn effect_of_number(subject: &Subject, bases: &[Base], number: Number) -> Effect {
    effect(subject, bases, |block| number.set(block, Level::Zero, 0, &mut super::random::Random(0)))
}

/// Members, which are weights or groups, and the bits that they hang on together.
#[derive(Debug)]
struct Component {
    bits: Vec<usize>,
    members: Vec<usize>,
}

/// Those of `count` members, by what each bit reaches, in the order of their first members.
fn components<'a>(count: usize, bits: impl Iterator<Item = (usize, &'a [usize])>) -> Vec<Component> {
    let bits: Vec<_> = bits.collect();
    // Every member knows one further up that is of its component, the first itself.
    let mut parents: Vec<usize> = (0..count).collect();
    fn first(parents: &mut [usize], mut member: usize) -> usize {
        while parents[member] != member {
            parents[member] = parents[parents[member]];
            member = parents[member];
        }
        member
    }
    for (_, members) in &bits {
        for pair in members.windows(2) {
            let (a, b) = (first(&mut parents, pair[0]), first(&mut parents, pair[1]));
            parents[a.max(b)] = a.min(b);
        }
    }
    let mut components: Vec<Component> = Vec::new();
    let mut index = vec![0; count];
    for member in 0..count {
        let first = first(&mut parents, member);
        if first == member {
            index[member] = components.len();
            components.push(Component { bits: Vec::new(), members: Vec::new() });
        }
        components[index[first]].members.push(member);
    }
    for (bit, members) in bits {
        if let Some(&member) = members.first() {
            let first = first(&mut parents, member);
            components[index[first]].bits.push(bit);
        }
    }
    components
}

struct Probe<'s> {
    subject: &'s Subject,
    bases: Vec<Base>,
    /// Those of the subject's numbers.
    numbers: Vec<Effect>,
    /// Those of every bit that is in no number.
    bits: Vec<(usize, Effect)>,
}

impl<'s> Probe<'s> {
    fn new(subject: &'s Subject) -> Result<Self, String> {
        let format = subject.format;
        let bits = 8 * format.block_bytes;
        // A change that does not show in one block does so in another; large blocks have many codes of each kind.
        let count = ((1 << 26) / (bits * format.block_len)).clamp(6, 24);
        let bases = bases(subject, count);
        let is_finite = |weight: &Weight| weight.scale.is_finite() && weight.minimum.is_finite();
        if !bases.iter().flat_map(|(_, weights)| weights).all(is_finite) {
            return Err(NOT_LISTED.to_owned());
        }
        let numbers: Vec<_> =
            subject.numbers.iter().map(|&number| effect_of_number(subject, &bases, number)).collect();
        let is_number = |byte: usize| subject.numbers.iter().any(|number| number.place().contains(&byte));
        let bits: Vec<_> = (0..bits)
            .filter(|bit| !is_number(bit / 8))
            .map(|bit| (bit, effect(subject, &bases, |block| block[bit / 8] ^= 1 << (bit % 8))))
            .collect();
        let named =
            numbers.iter().zip(subject.numbers).map(|(effect, number)| (effect, format!("{number:?}")));
        let named = named.chain(bits.iter().map(|(bit, effect)| (effect, name(*bit))));
        for (effect, name) in named {
            let parts: Vec<_> =
                Part::ALL.into_iter().filter(|&part| !effect.on(part).is_empty()).map(Part::name).collect();
            if parts.len() > 1 {
                return Err(format!("{name} changes {} at once", parts.join(" and ")));
            }
        }
        Ok(Self { subject, bases, numbers, bits })
    }

    /// Those of all bases.
    fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.bases.iter().flat_map(|(_, weights)| weights)
    }

    /// What `part` of the members of each of `components` can be, all together: `visit` gets the tuples without repetition.
    /// A member is read at the weight that `weight` says.
    fn enumerate(
        &self,
        base: &[u8],
        components: &[Component],
        part: Part,
        weight: impl Fn(usize) -> usize,
        mut visit: impl FnMut(&Component, Vec<Vec<f64>>) -> Result<(), String>,
    ) -> Result<(), String> {
        let most = components.iter().map(|component| component.bits.len()).max().unwrap_or(0);
        if let Some(large) = components.iter().find(|component| component.bits.len() > BITS) {
            return Err(format!(
                "{} bits from {} on make up the {} of weights together, more than the {BITS} that are tried",
                large.bits.len(),
                name(large.bits[0]),
                part.name()
            ));
        }
        // So many at once that their tuples take no more memory than those of one of the largest.
        for components in components.chunks((1 << (BITS + 2)) >> most) {
            let mut tuples = vec![Vec::new(); components.len()];
            for pattern in 0..1_usize << most {
                let mut block = base.to_vec();
                for Component { bits, .. } in components {
                    for (i, &bit) in bits.iter().enumerate() {
                        let value = pattern >> i & 1;
                        block[bit / 8] = block[bit / 8] & !(1 << (bit % 8)) | (value << (bit % 8)) as u8;
                    }
                }
                let weights = (self.subject.weights)(&block);
                for (Component { bits, members }, tuples) in components.iter().zip(&mut tuples) {
                    if pattern >> bits.len() == 0 {
                        let tuple: Vec<f64> =
                            members.iter().map(|&member| part.of(&weights[weight(member)])).collect();
                        tuples.push(tuple);
                    }
                }
            }
            for (component, mut tuples) in components.iter().zip(tuples) {
                if !tuples.iter().flatten().all(|value| value.is_finite()) {
                    return Err(NOT_LISTED.to_owned());
                }
                tuples.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
                tuples.dedup();
                visit(component, tuples)?;
            }
        }
        Ok(())
    }

    /// The values of codes, and what signs these can have besides.
    fn values(&self) -> Result<(Values, Signs), String> {
        let len = self.subject.format.block_len;
        let effects = || self.bits.iter().map(|(bit, effect)| (*bit, effect.on(Part::Code)));
        let whole = components(len, effects());
        // Signs are taken apart where a code or an entry can't be told without that.
        let negating: Vec<usize> = self
            .bits
            .iter()
            .filter(|(_, effect)| effect.negates && !effect.on(Part::Code).is_empty())
            .map(|(bit, _)| *bit)
            .collect();
        let base = &self.bases[0].0;
        let plain = self.values_of(base, &whole);
        if !matches!(plain, Ok(Values::Single(_)))
            && let Some(signs) = self.signs(&negating)
        {
            let mut base = base.clone();
            negating.iter().for_each(|bit| base[bit / 8] &= !(1 << (bit % 8)));
            let rest = components(len, effects().filter(|(bit, _)| !negating.contains(bit)));
            if let Ok(values) = self.values_of(&base, &rest) {
                return Ok((values, signs));
            }
        }
        match plain {
            Ok(values) => Ok((values, Signs::Own)),
            Err(reason) => Ok((self.tables().ok_or(reason)?, Signs::Own)),
        }
    }

    /// The values of weights that have bits of their own, beside bits of groups of weights, which choose their table; `None` where
    /// it is not like that.
    fn tables(&self) -> Option<Values> {
        let len = self.subject.format.block_len;
        let effects = || self.bits.iter().map(|(bit, effect)| (*bit, effect.on(Part::Code)));
        // From the first weight that a choosing bit reaches to the last: it may change no more than some of its group.
        let mut reaches: Vec<(usize, usize, usize)> = effects()
            .filter(|(_, weights)| weights.len() > 1)
            .map(|(bit, weights)| (weights[0], weights[weights.len() - 1], bit))
            .collect();
        reaches.sort_unstable();
        let mut groups: Vec<(usize, usize, Vec<usize>)> = Vec::new();
        for (first, last, bit) in reaches {
            match groups.last_mut() {
                Some(group) if first <= group.1 => {
                    group.1 = group.1.max(last);
                    group.2.push(bit);
                }
                _ => groups.push((first, last, vec![bit])),
            }
        }
        let bits = groups.first()?.2.len();
        let size = len / groups.len();
        let are_alike = groups.iter().enumerate().all(|(g, (first, last, choosing))| {
            first / size == g && last / size == g && choosing.len() == bits
        });
        if !are_alike || size * groups.len() != len || bits > BITS / 4 {
            return None;
        }
        let own = components(len, effects().filter(|(_, weights)| weights.len() <= 1));
        let of_choice = |choice: usize| {
            let mut base = self.bases[0].0.clone();
            for (i, bit) in groups.iter().flat_map(|(.., choosing)| choosing.iter().enumerate()) {
                base[bit / 8] = base[bit / 8] & !(1 << (bit % 8)) | ((choice >> i & 1) << (bit % 8)) as u8;
            }
            match self.values_of(&base, &own) {
                Ok(Values::Single(values)) => Some(values),
                _ => None,
            }
        };
        let mut tables = (0..1 << bits).map(of_choice).collect::<Option<Vec<_>>>()?;
        tables.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        tables.dedup();
        Some(Values::Tables { tables, size })
    }

    /// The values of `components`' codes: of single ones where every weight of a component can have each of its values
    /// whatever the others have.
    fn values_of(&self, base: &[u8], components: &[Component]) -> Result<Values, String> {
        let mut found: Option<Values> = None;
        self.enumerate(base, components, Part::Code, |e| e, |component, tuples| {
            let of_one = columns(&tuples);
            let values = if is_product(&tuples, &of_one) {
                if let Some(other) = of_one.iter().position(|values| *values != of_one[0]) {
                    return Err(differ(component.members[0], component.members[other]));
                }
                Values::Single(of_one.into_iter().next().unwrap_or_default())
            } else {
                let (first, count) = (component.members[0], component.members.len());
                let follow = component.members.iter().enumerate().all(|(i, &e)| e == first + i);
                if !follow || !first.is_multiple_of(count) || ![2, 4, 8].contains(&count) {
                    return Err(format!(
                        "weights {:?} have their codes from the same bits, and are no 2, 4 or 8 neighbours",
                        component.members
                    ));
                }
                Values::Rows(tuples)
            };
            match &found {
                None => found = Some(values),
                Some(Values::Single(others)) if matches!(&values, Values::Single(values) if values == others) => {}
                Some(Values::Rows(others)) if matches!(&values, Values::Rows(values) if values == others) => {}
                Some(_) => return Err(differ(components[0].members[0], component.members[0])),
            }
            Ok(())
        })?;
        found.ok_or_else(|| "a block has no weights".to_owned())
    }

    /// The signs that the bits `negating` give: a bit for each weight, or for each eight weights all that leave an
    /// even number of minuses. `None` where they do neither.
    fn signs(&self, negating: &[usize]) -> Option<Signs> {
        const OCTET: usize = 8;
        let mut octets = vec![Vec::new(); self.subject.format.block_len / OCTET];
        for (_, effect) in self.bits.iter().filter(|(bit, _)| negating.contains(bit)) {
            let weights = effect.on(Part::Code);
            let octet = weights[0] / OCTET;
            // A bit of an entry may negate all of it by chance; no sign of more than one weight reaches so far.
            if weights.iter().any(|e| e / OCTET != octet) {
                return None;
            }
            octets[octet].push(weights.iter().fold(0_u8, |mask, e| mask | 1 << (e % OCTET)));
        }
        let of_octet = |masks: &Vec<u8>| {
            // All sums of some of them.
            let mut sums = vec![false; 256];
            sums[0] = true;
            for &mask in masks {
                for sum in 0..256 {
                    if sums[sum] {
                        sums[sum ^ usize::from(mask)] = true;
                    }
                }
            }
            let holds = |parity: u32| {
                (0..256_usize).filter(|sum| sum.count_ones() % 2 == parity).all(|sum| sums[sum])
            };
            let holds_any_odd = (0..256_usize).any(|sum| sum.count_ones() % 2 == 1 && sums[sum]);
            match (holds(0), holds(1)) {
                (true, true) => Some(Signs::Any),
                (true, false) if !holds_any_odd => Some(Signs::Even),
                _ => None,
            }
        };
        let signs: Option<Vec<Signs>> = octets.iter().map(of_octet).collect();
        let signs = signs?;
        let first = signs.first().copied()?;
        signs.iter().all(|signs| *signs == first).then_some(first)
    }

    /// What the scale or the minimum of weights can be.
    fn product(&self, part: Part) -> Result<Product, String> {
        let len = self.subject.format.block_len;
        let mut numbers = vec![Vec::new(); len];
        for (number, effect) in self.subject.numbers.iter().zip(&self.numbers) {
            effect.on(part).iter().for_each(|&e| numbers[e].push(*number));
        }
        let mut bits = vec![Vec::new(); len];
        for (bit, effect) in &self.bits {
            effect.on(part).iter().for_each(|&e| bits[e].push(*bit));
        }
        self.is_proportional(part, &numbers)?;
        // A number of the block is one of every weight; any other is one of a group.
        let (block, of_groups): (Vec<Number>, Vec<Number>) =
            self.subject.numbers.iter().partition(|number| numbers.iter().all(|of| of.contains(number)));
        let own: Vec<Vec<Number>> = numbers
            .into_iter()
            .map(|numbers| numbers.into_iter().filter(|number| of_groups.contains(number)).collect())
            .collect();
        let is_alike = |e: usize, other: usize| bits[e] == bits[other] && own[e] == own[other];
        let size = (1..len).find(|&e| !is_alike(e, 0)).unwrap_or(len);
        if !len.is_multiple_of(size) || !(0..len).all(|e| is_alike(e, e / size * size)) {
            return Err(format!("groups that share a {} have different sizes", part.name()));
        }
        if bits[0].is_empty() && own[0].is_empty() {
            let constant = part.of(&self.bases[0].1[0]);
            if self.weights().any(|weight| part.of(weight) != constant) {
                return Err(format!("weights have {}s that no bit changes", part.name()));
            }
            return Ok(Product { block: block_numbers(&block, constant), group: None });
        }
        let own: Vec<_> = own.into_iter().step_by(size).collect();
        let group = Group { values: self.values_of_groups(part, size, &own)?, size };
        Ok(Product { block: block_numbers(&block, 1.0), group: Some(group) })
    }

    /// The numbers that each group of `size` weights can have, the same for all: what their bits can be, times numbers of
    /// their own.
    fn values_of_groups(&self, part: Part, size: usize, own: &[Vec<Number>]) -> Result<Vec<f64>, String> {
        let group_of = |weights: &[usize]| {
            let mut groups: Vec<usize> = weights.iter().map(|e| e / size).collect();
            groups.dedup();
            groups
        };
        let effects: Vec<_> =
            self.bits.iter().map(|(bit, effect)| (*bit, group_of(effect.on(part)))).collect();
        let effects = effects.iter().map(|(bit, groups)| (*bit, groups.as_slice()));
        let components = components(own.len(), effects);
        let mut found: Option<Vec<f64>> = None;
        let visit = |component: &Component, tuples: Vec<Vec<f64>>| {
            let of_one = columns(&tuples);
            if !is_product(&tuples, &of_one) {
                return Err(format!("groups share bits, from {} on", name(component.bits[0])));
            }
            for (&group, mut values) in component.members.iter().zip(of_one) {
                for number in &own[group] {
                    let factors = number.values().ok_or("an f32 of a group is more than can be listed")?;
                    values = products(&values, &factors);
                }
                match &found {
                    None => found = Some(values),
                    Some(others) if *others == values => {}
                    Some(_) => {
                        return Err(format!("groups 0 and {group} can have different {}s", part.name()));
                    }
                }
            }
            Ok(())
        };
        self.enumerate(&self.bases[0].0, &components, part, |group| group * size, visit)?;
        found.ok_or_else(|| "a block has no groups".to_owned())
    }

    /// `part` is what it is for numbers of 1, times its numbers.
    fn is_proportional(&self, part: Part, numbers: &[Vec<Number>]) -> Result<(), String> {
        let inputs = Inputs::plain(self.subject);
        let mut block = self.bases[0].0.clone();
        let random = inputs.blocks(1, 7, Level::Random(1.0), Bytes::Random);
        for number in self.subject.numbers {
            block[number.place()].copy_from_slice(&random[number.place()]);
        }
        let weights = (self.subject.weights)(&block);
        for (e, ((weight, before), numbers)) in weights.iter().zip(&self.bases[0].1).zip(numbers).enumerate()
        {
            let factor: f64 = numbers.iter().map(|number| number.value(&block)).product();
            let (expected, found) = (part.of(before) * factor, part.of(weight));
            if (expected - found).abs() > 1e-12 * expected.abs() {
                return Err(format!("the {} of weight {e} is no multiple of its numbers", part.name()));
            }
        }
        Ok(())
    }
}

/// The product of a block's numbers with a constant. What is too much to list has steps so fine that any number stands for it.
fn block_numbers(numbers: &[Number], constant: f64) -> Numbers {
    const MOST: usize = 1 << 16;
    if numbers.is_empty() {
        return Numbers::One(constant);
    }
    let mut found = vec![constant];
    for number in numbers {
        match number.values() {
            Some(values) if found.len() * values.len() <= MOST => found = products(&found, &values),
            _ => return Numbers::Any,
        }
    }
    Numbers::These(found)
}

/// Each of `a` with each of `b`, in ascending order.
fn products(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut products: Vec<f64> = a.iter().flat_map(|a| b.iter().map(move |b| a * b)).collect();
    products.sort_unstable_by(f64::total_cmp);
    products.dedup();
    products
}

/// What each member has in `tuples`, in ascending order.
fn columns(tuples: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let column = |i: usize| {
        let mut values: Vec<f64> = tuples.iter().map(|tuple| tuple[i]).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        values
    };
    (0..tuples.first().map_or(0, Vec::len)).map(column).collect()
}

/// Whether `tuples` are all that can be made of `columns`.
fn is_product(tuples: &[Vec<f64>], columns: &[Vec<f64>]) -> bool {
    columns.iter().try_fold(1_usize, |product, values| product.checked_mul(values.len()))
        == Some(tuples.len())
}

fn name(bit: usize) -> String {
    format!("bit {} of byte {}", bit % 8, bit / 8)
}

fn differ(a: usize, b: usize) -> String {
    format!("weights {a} and {b} can have different codes")
}
