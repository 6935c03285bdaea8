//! Features of the tips world: computing all of them, and gathering a row of each spec.

use super::{Case, Work};
use oo_core::features::{self, Columns, FeatureSpec};
use oo_core::tips::{Moment, Profile, Task};
use oo_core::{ActionId, Candidates, Key, Round, UserId};
use std::hint::black_box;

const ROUNDS: usize = 64;
const CANDIDATES: usize = 10;

/// One case a spec, and one for computing.
pub(super) fn cases() -> Vec<Case> {
    let gathered = FeatureSpec::ALL.into_iter().chain(["all"]);
    let gathered = gathered.map(|spec| Case::new("features", &format!("gather {spec}"), move || gather(spec)));
    gathered.chain([Case::new("features", "compute", compute)]).collect()
}

fn tasks() -> Vec<Task> {
    let mut draws = Key::root(1).name("tasks").draws();
    let task = |id: usize| Task {
        id: id as u64,
        priority: 1 + draws.below(4) as u8,
        created: Moment(draws.below(10_000) as u64),
        due: (!id.is_multiple_of(3)).then(|| Moment(10_000 + draws.below(10_000) as u64)),
        effort_minutes: 5.0 + 100.0 * draws.uniform(),
        recurs_days: None,
    };
    (0..CANDIDATES).map(task).collect()
}

fn moment(round: usize) -> Moment {
    Moment(10_000 + 157 * round as u64)
}

fn fill(round: usize, tasks: &[Task], context: &mut Vec<f32>, candidates: &mut Vec<f32>) {
    let profile = Profile {
        completion_rate_30d: Some(0.4),
        dismiss_rate_30d: Some(0.2),
        mean_dwell_ms_30d: Some(9000.0),
        preferred_hour: Some(10.0),
        tip_volume_30d: Some(40.0),
    };
    context.clear();
    candidates.clear();
    features::context_into(moment(round), &profile, context);
    for task in tasks {
        features::candidate_into(task, moment(round), 0.5, context, candidates);
    }
}

fn compute() -> Work {
    let (tasks, mut context, mut candidates) = (tasks(), vec![], vec![]);
    fill(0, &tasks, &mut context, &mut candidates);
    Box::new(move || {
        for round in 0..ROUNDS {
            fill(round, black_box(&tasks), &mut context, &mut candidates);
            black_box((&context, &candidates));
        }
    })
}

fn gather(spec: &str) -> Work {
    let columns = Columns::new("the bench", &features::shape(), spec).expect("a spec of the tips world");
    let (mut context, mut candidates) = (vec![], vec![]);
    fill(7, &tasks(), &mut context, &mut candidates);
    let ids: Vec<ActionId> = (0..CANDIDATES as u64).map(ActionId).collect();
    let mut row = vec![0.0; columns.dim()];
    Box::new(move || {
        let round = Round {
            index: 0,
            user: UserId(0),
            context: &context,
            candidates: Candidates {
                ids: &ids,
                features: &candidates,
                dim: candidates.len() / CANDIDATES,
            },
        };
        for _ in 0..ROUNDS {
            for i in 0..CANDIDATES {
                columns.gather(black_box(&round), i, &mut row);
                black_box(&row);
            }
        }
    })
}
