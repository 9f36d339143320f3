//! The identity that a request asks for. A request that names a user must never run as the agent
//! itself, so ambiguous combinations are refused.

use super::OptionsError;
use crate::value::{guid, syntax};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Agent {
    /// `AgentIdentity`: the agent's client id, as a lower-case GUID with dashes.
    pub identity: String,
    /// The agent's user account. `None`: the agent itself.
    pub user: Option<AgentUser>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AgentUser {
    /// `AgentUsername`: a user principal name, as sent.
    Username(String),
    /// `AgentUserId`: an object id, lower case with dashes.
    Id(String),
}

impl Agent {
    /// The agent that the three parameters describe together. Each is absent or not empty.
    pub(super) fn select(
        identity: Option<String>,
        username: Option<String>,
        user_id: Option<String>,
    ) -> Result<Option<Self>, OptionsError> {
        let user = match (&identity, username, user_id) {
            (_, None, None) => None,
            (None, Some(_), _) => return Err(OptionsError::UserWithoutAgent("AgentUsername")),
            (None, None, Some(_)) => return Err(OptionsError::UserWithoutAgent("AgentUserId")),
            (Some(_), Some(_), Some(_)) => return Err(OptionsError::UsernameAndUserId),
            (Some(_), Some(username), None) => Some(AgentUser::Username(named("AgentUsername", username)?)),
            (Some(_), None, Some(id)) => {
                Some(AgentUser::Id(guid::parse(&id).map_err(|_| OptionsError::UserIdNotGuid)?))
            }
        };
        let Some(identity) = identity else { return Ok(None) };
        // Normalised, so that every spelling of an id is the same key of the cache and of sessions.
        let identity = guid::parse(&identity).or_else(|_| named("AgentIdentity", identity))?;
        Ok(Some(Self { identity, user }))
    }
}

fn named(key: &'static str, text: String) -> Result<String, OptionsError> {
    syntax::plain(&text).map(|()| text).map_err(|expected| OptionsError::AgentParameter(key, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5F0A5B1C-8A3E-4D0B-9B1E-0123456789AB";

    fn select(identity: &str, username: &str, user_id: &str) -> Result<Option<Agent>, String> {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Agent::select(given(identity), given(username), given(user_id)).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn every_combination_names_one_identity_or_is_refused() {
        let agent = |user| Ok(Some(Agent { identity: "a".into(), user }));
        let needs = |key: &str| Err(format!("{key} requires AgentIdentity to be specified"));
        let exclusive = Err("AgentUsername and AgentUserId are mutually exclusive".to_owned());
        assert_eq!(select("", "", ""), Ok(None));
        assert_eq!(select("a", "", ""), agent(None));
        assert_eq!(select("a", "u@x", ""), agent(Some(AgentUser::Username("u@x".into()))));
        assert_eq!(select("a", "", ID), agent(Some(AgentUser::Id(ID.to_lowercase()))));
        assert_eq!(select("a", "u@x", ID), exclusive);
        assert_eq!(select("a", "u@x", "no guid"), exclusive);
        assert_eq!(select("", "u@x", ""), needs("AgentUsername"));
        assert_eq!(select("", "", ID), needs("AgentUserId"));
        assert_eq!(select("", "u@x", ID), needs("AgentUsername"));
    }

    #[test]
    fn an_agents_id_has_one_form_once_read() {
        for identity in [ID, &ID.to_lowercase(), &ID.replace('-', "")] {
            assert_eq!(select(identity, "", ""), Ok(Some(Agent { identity: ID.to_lowercase(), user: None })));
        }
    }

    #[test]
    fn a_user_id_that_is_no_guid_never_becomes_the_agent_itself() {
        for id in ["x", "5f0a5b1c-8a3e-4d0b-9b1e-0123456789a", "5f0a5b1c-8a3e-4d0b-9b1e-0123456789abc", " ", "u@x"] {
            assert_eq!(select("a", "", id), Err("AgentUserId must be a valid GUID".to_owned()), "{id:?}");
        }
    }
}
