//! What the last weeks say of a person: how often each tip was shown, and how tips were taken. The simulator and the
//! server compute both here, so that a policy finds in production the features that it was trained on, bit for bit.

use super::{Feedback, Moment, Profile, Reaction};

/// Days that a profile looks back.
pub const WINDOW_DAYS: u64 = 30;
/// Half-life of having seen a tip, in minutes.
const SHOWN_HALF_LIFE: f64 = 2.0 * 1440.0;

/// What is left of a value after some time that halves it every `half_life` minutes.
pub fn fade(value: f64, minutes: u64, half_life: f64) -> f64 {
    value * libm::exp2(-(minutes as f64) / half_life)
}

/// Showings of one tip. Each counts 1 and fades, by half in two days.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Showings {
    /// What they came to at the last of them.
    pub sum: f64,
    /// When that was.
    pub at: Moment,
}

impl Showings {
    /// None so far; `at` is any moment before the first.
    pub fn none(at: Moment) -> Showings {
        Showings { sum: 0.0, at }
    }

    /// What the candidates' feature `recently_shown` is made of: 0 is fresh, 3 is worn out.
    pub fn recently(&self, now: Moment) -> f64 {
        fade(self.sum, now.0.saturating_sub(self.at.0), SHOWN_HALF_LIFE)
    }

    /// One more.
    pub fn add(&mut self, now: Moment) {
        (self.sum, self.at) = (self.recently(now) + 1.0, now);
    }
}

impl Profile {
    /// The profile of the tips of a window, in the order in which they were shown: `None` where nothing was heard of
    /// one, else when it was heard, by the person's clock, and what.
    pub fn of(shown: impl Iterator<Item = Option<(Moment, Feedback)>>) -> Profile {
        let (mut volume, mut known, mut done, mut dismissed) = (0u64, 0u64, 0u64, 0u64);
        let (mut dwell, mut dwelt) = (0.0, 0u64);
        let mut by_hour = [0u32; 24];
        for heard in shown {
            volume += 1;
            let Some((at, feedback)) = heard else { continue };
            known += 1;
            if let Some(ms) = feedback.dwell_ms {
                dwell += ms as f64;
                dwelt += 1;
            }
            match feedback.reaction {
                Reaction::Done => {
                    done += 1;
                    by_hour[(at.0 % 1440 / 60) as usize] += 1;
                }
                Reaction::Dismiss => dismissed += 1,
                _ => {}
            }
        }
        let most = by_hour.iter().copied().max().unwrap_or(0);
        // Of several the earliest.
        let preferred = by_hour.iter().position(|&n| n == most && n > 0);
        let share = |n: u64| (known > 0).then(|| n as f64 / known as f64);
        Profile {
            completion_rate_30d: share(done),
            dismiss_rate_30d: share(dismissed),
            mean_dwell_ms_30d: (dwelt > 0).then(|| dwell / dwelt as f64),
            preferred_hour: preferred.map(|h| h as f64),
            tip_volume_30d: (volume > 0).then_some(volume as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_counts_what_was_heard() {
        let heard = |hour: u64, reaction, dwell_ms| Some((Moment(hour * 60 + 59), Feedback { reaction, dwell_ms }));
        let all = [
            None,
            heard(9, Reaction::Done, Some(60_000)),
            heard(33, Reaction::Done, None),
            heard(9, Reaction::Snooze, Some(30_000)),
            heard(20, Reaction::Dismiss, None),
            heard(20, Reaction::Helpful, None),
        ];
        let profile = Profile::of(all.into_iter());
        let expected = Profile {
            completion_rate_30d: Some(0.4),
            dismiss_rate_30d: Some(0.2),
            mean_dwell_ms_30d: Some(45_000.0),
            preferred_hour: Some(9.0),
            tip_volume_30d: Some(6.0),
        };
        assert_eq!(profile, expected);
        assert_eq!(Profile::of(std::iter::empty()), Profile::default());
        // Shown and nothing heard: a volume and no rates.
        let silent = Profile::of([None, None].into_iter());
        assert_eq!((silent.tip_volume_30d, silent.completion_rate_30d), (Some(2.0), None));
    }

    #[test]
    fn showings_fade_by_half_in_two_days() {
        let mut showings = Showings::none(Moment(0));
        showings.add(Moment(1440));
        showings.add(Moment(3 * 1440));
        assert_eq!(
            (showings.recently(Moment(3 * 1440)), showings.recently(Moment(5 * 1440))),
            (1.5, 0.75)
        );
        // A clock that falls back changes nothing.
        assert_eq!(showings.recently(Moment(0)), 1.5);
    }
}
