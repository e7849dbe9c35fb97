//! The kinds of updates, and which of them a bot wants.

use crate::Call;

/// Takes `allowed_updates` of a call. Only a readable list changes what was there, and a list
/// without a known name means the default, which is `None`.
pub(crate) fn set(allowed: &mut Option<Vec<String>>, call: &Call) {
    let Ok(names) = serde_json::from_str::<Vec<String>>(&call.text("allowed_updates")) else {
        return;
    };
    let is_named = |kind: &str| names.iter().any(|name| name.eq_ignore_ascii_case(kind));
    let kinds: Vec<&str> = KINDS.split(' ').filter(|kind| is_named(kind)).collect();
    let is_default = kinds.is_empty() || by_default().eq(kinds.iter().copied());
    *allowed = (!is_default).then(|| kinds.into_iter().map(str::to_owned).collect());
}

/// The kinds that a bot gets which has asked for none.
pub(crate) fn by_default() -> impl Iterator<Item = &'static str> {
    KINDS.split(' ').filter(|kind| {
        !["chat_member", "message_reaction", "message_reaction_count"].contains(kind)
    })
}

/// In Telegram's order.
const KINDS: &str = "\
    message edited_message channel_post edited_channel_post inline_query chosen_inline_result callback_query \
    shipping_query pre_checkout_query poll poll_answer my_chat_member chat_member chat_join_request chat_boost \
    removed_chat_boost message_reaction message_reaction_count business_connection business_message \
    edited_business_message deleted_business_messages purchased_paid_media managed_bot guest_message";
