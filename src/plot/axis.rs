//! Linear and logarithmic axes, with round numbers as ticks.

/// A range of values, mapped to a range of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    /// The ends of the range; on a logarithmic axis, their decimal logarithms.
    least: f64,
    most: f64,
    start: f64,
    length: f64,
    is_log: bool,
}

impl Axis {
    /// A linear axis from `least` to `most`, between `start` and `start + length`. An empty range is widened.
    pub(super) fn new((least, most): (f64, f64), start: f64, length: f64) -> Self {
        let (least, most) = match (least.is_finite(), most.is_finite()) {
            (true, true) if least < most => (least, most),
            (true, _) => widened(least),
            _ => (0.0, 1.0),
        };
        Axis { least, most, start, length, is_log: false }
    }

    /// A logarithmic axis. Only values above zero are on it.
    pub(super) fn log((least, most): (f64, f64), start: f64, length: f64) -> Self {
        let least = if least > 0.0 { least } else { most / 1000.0 };
        Axis { is_log: true, ..Axis::new((least.log10(), most.log10()), start, length) }
    }

    /// The pixel of `x`: an end of the axis if `x` is beyond it, the start if `x` is NaN.
    pub(super) fn at(&self, x: f64) -> f64 {
        self.start + self.part(x).clamp(0.0, 1.0) * self.length
    }

    /// The pixel of `x`, also beyond the ends, up to 10,000 lengths: visible parts of lines keep their slope.
    pub(super) fn beyond(&self, x: f64) -> f64 {
        const FAR: f64 = 1e4;
        self.start + self.part(x).clamp(-FAR, FAR) * self.length
    }

    /// Where `x` is in the range: 0 at its start, 1 at its end.
    fn part(&self, x: f64) -> f64 {
        let x = if self.is_log { x.log10() } else { x };
        let part = (x / 2.0 - self.least / 2.0) / (self.most / 2.0 - self.least / 2.0);
        if part.is_nan() { 0.0 } else { part }
    }

    /// Whether `x` is in the range.
    pub(super) fn holds(&self, x: f64) -> bool {
        let x = if self.is_log { x.log10() } else { x };
        x >= self.least && x <= self.most
    }

    /// Returns about `count` round numbers in the range, with their labels.
    pub(super) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        if self.is_log { self.powers(count) } else { self.steps(count) }
    }

    /// Powers of ten, times 1, 2 and 5 if there are few; linear steps if the range is less than a power of ten.
    fn powers(&self, count: usize) -> Vec<(f64, String)> {
        if self.most - self.least < 1.0 {
            let ends = (10f64.powf(self.least), 10f64.powf(self.most));
            return Axis::new(ends, self.start, self.length).steps(count);
        }
        let (first, last) = (self.least.floor() as i32, self.most.ceil() as i32);
        let stride = (((last - first) as usize).div_ceil(count.max(1))).max(1);
        let factors: &[f64] = if self.most - self.least < 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (first..=last).step_by(stride);
        let numbers = powers.flat_map(|power| factors.iter().map(move |factor| (factor, power)));
        let is_short = PLAIN_POWERS.contains(&first) && PLAIN_POWERS.contains(&last);
        let ticks =
            numbers.map(|(factor, power)| (factor * 10f64.powi(power), power_text(*factor, power, is_short)));
        // Slightly beyond the ends, for numbers moved by rounding.
        let holds = |x: f64| x.log10() >= self.least - 1e-9 && x.log10() <= self.most + 1e-9;
        ticks.filter(|(x, _)| holds(*x)).collect()
    }

    fn steps(&self, count: usize) -> Vec<(f64, String)> {
        // In halves, since the difference could overflow.
        let rough = (self.most / 2.0 - self.least / 2.0) / (count.max(1) as f64 / 2.0);
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough).unwrap_or(10.0) * power;
        if !(step.is_finite() && step > 0.0) {
            return Vec::new();
        }
        let decimals = (-step.log10().floor()).clamp(0.0, 300.0) as usize;
        let first = (self.least / step).ceil();
        let multiples = (0..=count * 3).map(|i| (first + i as f64) * step).filter(|x| x.is_finite());
        let multiples: Vec<_> = multiples.take_while(|x| *x <= self.most + step * 1e-6).collect();
        // All share the exponent of the largest, or are written without one if they need many digits even with it.
        let largest = multiples.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        let power = largest.log10().floor();
        let digits = (power - step.log10().floor()).clamp(0.0, 15.0) as usize;
        let is_plain = decimals <= 6 && largest < 1e8 || digits >= 5 && decimals <= 15 && largest < 1e15;
        let power = if is_plain { 0 } else { power as i32 };
        let text = |x: &f64| {
            // Zero, without a sign or a rounding error.
            let x = if x.abs() < step / 1e6 { 0.0 } else { *x };
            if power == 0 {
                return format!("{x:.decimals$}");
            }
            let factor =
                if power < -300 { x * 1e300 / 10f64.powi(power + 300) } else { x / 10f64.powi(power) };
            if x == 0.0 { "0".to_owned() } else { format!("{factor:.digits$}·{}", raised_power(power)) }
        };
        let mut ticks: Vec<_> = multiples.iter().map(|x| (*x, text(x))).collect();
        // Numbers that differ only after the fifteenth digit have the same label.
        ticks.dedup_by(|next, tick| next.1 == tick.1);
        ticks
    }
}

/// The exponents of the powers of ten that are short when written out.
const PLAIN_POWERS: std::ops::RangeInclusive<i32> = -4..=5;

/// `factor · 10^power`, written out or with an exponent.
fn power_text(factor: f64, power: i32, is_plain: bool) -> String {
    match power {
        _ if !is_plain && factor == 1.0 => raised_power(power),
        _ if !is_plain => format!("{factor}·{}", raised_power(power)),
        0.. => format!("{}", factor * 10f64.powi(power)),
        _ => format!("{:.*}", power.unsigned_abs() as usize, factor * 10f64.powi(power)),
    }
}

/// A power of ten with a raised exponent: "10⁻⁷".
fn raised_power(power: i32) -> String {
    let raised = |c: char| match c {
        '-' => '⁻',
        digit => "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(digit as usize - '0' as usize).unwrap_or(digit),
    };
    format!("10{}", power.to_string().chars().map(raised).collect::<String>())
}

/// A range around a single value.
pub(super) fn widened(x: f64) -> (f64, f64) {
    let half = x.abs().max(1.0) / 2.0;
    ((x - half).max(f64::MIN), (x + half).min(f64::MAX))
}

/// The least and the greatest of the finite values; `(inf, -inf)` if there are no finite values.
pub(super) fn range(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = numbers.filter(|x| x.is_finite());
    finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| (least.min(x), most.max(x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_a_logarithmic_axis_are_powers() {
        let texts = |range, count| {
            let ticks = Axis::log(range, 0.0, 100.0).ticks(count);
            ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(texts((1e-6, 1.0), 7), ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]);
        assert_eq!(texts((0.001, 1.0), 5), ["0.001", "0.01", "0.1", "1"]);
        assert_eq!(texts((1.0, 50.0), 5), ["1", "2", "5", "10", "20", "50"]);
        assert_eq!(texts((1e-12, 1e8), 5), ["10⁻¹²", "10⁻⁸", "10⁻⁴", "10⁰", "10⁴", "10⁸"]);
        let axis = Axis::log((1.0, 100.0), 0.0, 100.0);
        assert!((axis.at(10.0) - 50.0).abs() < 1e-9);
        assert!(axis.holds(100.0) && !axis.holds(0.0) && !axis.holds(-1.0) && !axis.holds(f64::NAN));
        assert_eq!(axis.at(-1.0), 0.0);
        for range in [(0.0, 0.0), (-1.0, 5.0), (f64::NAN, f64::NAN), (f64::MIN_POSITIVE, f64::MAX)] {
            let axis = Axis::log(range, 0.0, 100.0);
            assert!(axis.ticks(5).len() < 20, "{range:?}");
            assert!((0.0..=100.0).contains(&axis.at(1.0)), "{range:?}");
        }
    }

    #[test]
    fn ticks_are_round_and_few() {
        let texts = |range| {
            let ticks = Axis::new(range, 0.0, 100.0).ticks(5);
            ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(texts((0.0, 1.0)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts((-3.0, 12.0)), ["0", "5", "10"]);
        assert_eq!(texts((0.495, 0.532)), ["0.50", "0.51", "0.52", "0.53"]);
        assert_eq!(texts((0.0, 5e6)), ["0", "1000000", "2000000", "3000000", "4000000", "5000000"]);
        assert_eq!(texts((0.0, 2e9)), ["0", "0.5·10⁹", "1.0·10⁹", "1.5·10⁹", "2.0·10⁹"]);
        assert_eq!(texts((0.0, 4e-9)), ["0", "1·10⁻⁹", "2·10⁻⁹", "3·10⁻⁹", "4·10⁻⁹"]);
        assert_eq!(texts((1e9, 1e9 + 4.0))[..2], ["1000000000", "1000000001"]);
        assert_eq!(texts((12.0, 12.0 + 2e-7))[1], "12.00000005");
        assert_eq!(texts((-1.7e308, 1.7e308)), ["-1·10³⁰⁸", "0", "1·10³⁰⁸"]);
        assert!(texts((1e17, 1e17 + 64.0)).windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(texts((0.0, 3e-310))[1..], ["1·10⁻³¹⁰", "2·10⁻³¹⁰", "3·10⁻³¹⁰"]);
        let axis = Axis::new((0.0, 10.0), 0.0, 100.0);
        assert_eq!([axis.at(20.0), axis.beyond(20.0), axis.beyond(-1.0)], [100.0, 200.0, -10.0]);
        assert!(axis.beyond(f64::MAX).is_finite() && axis.beyond(f64::MIN).is_finite());
        let odd = [
            (1.0, 1.0),
            (0.0, 0.0),
            (f64::NAN, 1.0),
            (f64::INFINITY, f64::NEG_INFINITY),
            (f64::MIN, f64::MAX),
        ];
        for range in odd {
            let axis = Axis::new(range, 10.0, 100.0);
            assert!(axis.ticks(5).len() < 20, "{range:?}");
            assert!(
                [f64::NAN, f64::MAX, f64::MIN, 0.5].iter().all(|x| (10.0..=110.0).contains(&axis.at(*x)))
            );
        }
    }
}
