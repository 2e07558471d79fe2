//! The words that take a capability from a unit's processes.

use super::implied_mounts::is_on;
use super::sandbox_settings::{SandboxSettings, SandboxWord};
use super::withheld::{Withheld, withheld};
use crate::policy::capabilities::{Capability, CapabilitySet, find_withheld};
use crate::policy::directive::Directive;
use crate::policy::settings::Settings;

/// Returns the words that take a capability out of the bounding set.
pub(super) fn bounding_causes(settings: &Settings, capability: Capability) -> Vec<(SandboxWord, Withheld)> {
    let own = find_removal(settings, Directive::CapabilityBoundingSet, CapabilitySet::ALL, capability);
    let own = own.map(|word| {
        let is_list = word.text.is_empty();
        (word, if is_list { withheld("this set lacks ", "") } else { withheld("drops ", "") })
    });
    let drops = |directive: &Directive| capability.name().is_some_and(|name| find_withheld(*directive).contains(&name));
    let dropping = Directive::switches().filter(drops).filter_map(|directive| is_on(settings, directive));
    own.into_iter().chain(dropping.map(|word| (word, withheld("drops ", "")))).collect()
}

/// Returns the words by which a program starts without a capability that its bounding set holds.
pub(super) fn effective_causes(
    settings: &Settings,
    sandbox: &SandboxSettings,
    capability: Capability,
) -> Vec<(SandboxWord, Withheld)> {
    let ambient = settings.lines(Directive::AmbientCapabilities);
    let mut set = CapabilitySet::NONE;
    ambient.for_each(|line| set.merge(CapabilitySet::NONE, &line.value));
    if set.holds(capability) {
        return Vec::new();
    }
    let user = sandbox.word(Directive::User).filter(|(user, _)| !matches!(*user, "" | "root" | "0"));
    let dynamic = || {
        is_on(settings, Directive::DynamicUser)
            .filter(|_| sandbox.word(Directive::User).is_none_or(|(user, _)| user.is_empty()))
    };
    let word = user.map(|(_, word)| word.clone()).or_else(dynamic);
    word.into_iter().map(|word| (word, withheld("this user starts without ", ""))).collect()
}

/// Returns the word of the line that removed a capability last; its text is empty if the line as a whole did.
fn find_removal(
    settings: &Settings,
    directive: Directive,
    initial: CapabilitySet,
    capability: Capability,
) -> Option<SandboxWord> {
    let mut set = initial;
    let mut removal = None;
    for line in settings.lines(directive) {
        let before = set.holds(capability);
        set.merge(initial, &line.value);
        if before && !set.holds(capability) {
            let named = line.value.strip_prefix('~').and_then(|words| {
                words
                    .split_whitespace()
                    .find(|word| capability.name().is_some_and(|name| name.eq_ignore_ascii_case(word)))
            });
            let text = named.unwrap_or_default().into();
            removal = Some(SandboxWord { directive, text, origin: line.origin.clone() });
        }
    }
    removal.filter(|_| !set.holds(capability))
}
