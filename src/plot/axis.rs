//! Round numbers along an axis.

/// A range of numbers along a line of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    least: f64,
    most: f64,
    start: f64,
    length: f64,
}

impl Axis {
    /// From `least` to `most` between `start` and `start + length`. A range that is empty or none is widened.
    pub(super) fn new((least, most): (f64, f64), start: f64, length: f64) -> Self {
        let (least, most) = match (least.is_finite(), most.is_finite()) {
            (true, true) if least < most => (least, most),
            (true, _) => (least - least.abs().max(1.0) / 2.0, least + least.abs().max(1.0) / 2.0),
            _ => (0.0, 1.0),
        };
        Axis { least, most, start, length }
    }

    /// Where a number is; at the start for what is no number.
    pub(super) fn at(&self, x: f64) -> f64 {
        let part = (x / 2.0 - self.least / 2.0) / (self.most / 2.0 - self.least / 2.0);
        self.start + if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) } * self.length
    }

    /// About `count` round numbers in the range, with their texts.
    pub(super) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let rough = (self.most / 2.0 - self.least / 2.0) * 2.0 / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough).unwrap_or(10.0) * power;
        if !(step.is_finite() && step > 0.0) {
            return Vec::new();
        }
        let decimals = (-step.log10().floor()).clamp(0.0, 300.0) as usize;
        let first = (self.least / step).ceil();
        let places = (0..=count * 3).map(|i| (first + i as f64) * step);
        let text = |x: f64| {
            // Zero has no sign.
            let x = if x.abs() < step / 1e6 { 0.0 } else { x };
            if decimals > 5 || x.abs() >= 1e6 { format!("{x:.1e}") } else { format!("{x:.decimals$}") }
        };
        places.take_while(|x| *x <= self.most + step * 1e-6).map(|x| (x, text(x))).collect()
    }
}

/// The least and the greatest of the numbers that are finite; an empty range where there are none.
pub(super) fn range(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = numbers.filter(|x| x.is_finite());
    finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| (least.min(x), most.max(x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let texts = |range| {
            let ticks = Axis::new(range, 0.0, 100.0).ticks(5);
            ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(texts((0.0, 1.0)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts((-3.0, 12.0)), ["0", "5", "10"]);
        assert_eq!(texts((0.495, 0.532)), ["0.50", "0.51", "0.52", "0.53"]);
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
