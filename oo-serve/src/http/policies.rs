//! Which policies there are, and which one decides.

use super::contract::Text;
use super::problem::{Problem, Unwritten, parse};
use super::{Answer, Call, json};
use crate::config::Mode;
use crate::rollout::{self, RuleGiven};
use serde::Deserialize;
use utoipa::ToSchema;

/// `POST /policies`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"action": "shadow", "name": "next", "policy": "lin-ts{features=v3}"}))]
pub struct ChangeRequest<'a> {
    /// What to do.
    pub action: Action,
    /// shadow, end_shadow, promote: the shadow's name.
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    pub name: Option<Text<'a>>,
    /// shadow, promote, experiment: a spec, a folder on the server that `oo-sim gate` wrote, or models:/NAME@ALIAS.
    #[schema(value_type = Option<String>)]
    pub policy: Option<Text<'a>>,
    /// experiment: its name, the salt of the assignment.
    #[schema(value_type = Option<String>)]
    pub salt: Option<Text<'a>>,
    /// experiment: the challenger's share of users, ½ by default.
    pub share: Option<f64>,
    /// experiment: the rule of docs/gate.md that judges it, as an object or as the path of a TOML file on the server; by
    /// default the one that `oo-sim gate` uses.
    pub rule: Option<RuleGiven>,
    /// launch: even if the gate does not say promote.
    pub force: Option<bool>,
}

impl ChangeRequest<'_> {
    /// A field that the action has no use for: whoever gave it expects something that would not happen.
    fn unused(&self) -> Option<&'static str> {
        let used: &[&str] = match self.action {
            Action::Shadow | Action::Promote => &["name", "policy"],
            Action::EndShadow => &["name"],
            Action::Experiment => &["policy", "salt", "share", "rule"],
            Action::Launch => &["force"],
            Action::RollBack | Action::Stop => &[],
        };
        let given = [
            ("name", self.name.is_some()),
            ("policy", self.policy.is_some()),
            ("salt", self.salt.is_some()),
            ("share", self.share.is_some()),
            ("rule", self.rule.is_some()),
            ("force", self.force.is_some()),
        ];
        let unused = given.into_iter().find(|(field, given)| *given && !used.contains(field));
        unused.map(|(field, _)| field)
    }
}

/// What to do with a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Let a policy decide along, unheard.
    Shadow,
    /// End a shadow.
    EndShadow,
    /// Put a shadow or another policy in charge.
    Promote,
    /// Put back what was in charge before.
    RollBack,
    /// Let a challenger decide for a share of the users.
    Experiment,
    /// End the experiment.
    Stop,
    /// Put the challenger in charge.
    Launch,
}

/// The policy in charge, the shadows with how far they got, the experiment.
#[utoipa::path(get, path = "/policies", tag = "look",
    responses((status = 200, description = "{active, shadows, experiment, last_experiment, can_roll_back_to}")), security((), ("bearer" = [])))]
pub async fn list(call: Call) -> Answer {
    json(&call.app.rollout.policies())
}

/// Changes them; answers with what there is afterwards.
#[utoipa::path(post, path = "/policies", tag = "change", request_body = ChangeRequest<'static>,
    responses(
        (status = 200, description = "Done; as GET /policies"),
        (status = 404, description = "No shadow of this name", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not in this state; for launch, with the gate's reasons", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A policy that does not fit, or a field that cannot be used", body = Problem, content_type = "application/problem+json"),
        Unwritten,
    ), security((), ("bearer" = [])))]
pub async fn change(call: Call) -> Answer {
    let app = call.app.clone();
    // It reads files, builds policies and waits for the disk.
    let done = tokio::task::spawn_blocking(move || {
        let request: ChangeRequest<'_> = parse(&call.body)?;
        if let Some(field) = request.unused() {
            return Err(Problem::field(field, "this action does not use it; leave it out"));
        }
        let (name, policy) = (request.name.as_deref(), request.policy.as_deref());
        let rollout = &call.app.rollout;
        match request.action {
            Action::Shadow => {
                let policy = policy.ok_or_else(|| Problem::field("policy", "missing; expected a spec or a folder"))?;
                rollout.add_shadow(name.unwrap_or(policy), policy)
            }
            Action::EndShadow => {
                rollout.remove_shadow(name.ok_or_else(|| Problem::field("name", "missing; expected a shadow's name"))?)
            }
            // The caller decides, for everybody.
            Action::Experiment if call.app.mode != Mode::Serve => Err(Problem::not_now(format!(
                "an experiment needs the mode serve, and this is {}",
                call.app.mode.name()
            ))),
            Action::Promote => rollout.promote(name, policy),
            Action::RollBack => rollout.roll_back(),
            Action::Experiment => rollout.experiment(&rollout::Asked {
                salt: request.salt.as_deref(),
                policy,
                share: request.share,
                rule: request.rule.as_ref(),
            }),
            Action::Stop => rollout.stop(),
            Action::Launch => rollout.launch(request.force == Some(true)),
        }
    });
    done.await
        .map_err(|_| Problem::unavailable("the change was given up"))??;
    json(&app.rollout.policies())
}
