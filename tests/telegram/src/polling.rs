//! getUpdates: pages, long polls and conflicts.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::answer::{Answer, Poll, Wait};
use crate::queue::Update;
use crate::state::{Account, MAX_UPDATES, Shared};
use crate::{Call, Options, kinds};

/// Bytes of one page.
const MAX_PAGE: i64 = 4 * 1024 * 1024;

/// getUpdates.
pub(crate) fn get_updates(shared: &Shared, account: &mut Account, call: &Call) -> Answer {
    let options = &shared.options;
    if account.webhook.is_some() {
        return conflict(
            account,
            "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first",
            options,
        );
    }
    let offset = call.integer("offset", 0, i64::from(i32::MIN), i64::from(i32::MAX));
    let mut limit = call.integer("limit", 100, 1, 100);
    let mut timeout = call.integer("timeout", 0, 0, 50);
    kinds::set(&mut account.allowed_updates, call);
    let now = Instant::now();
    // Who asks the same again and again has to wait.
    if let Some((previous, then)) = account.polling.previous
        && previous == offset
    {
        if timeout < 3 && now < then + options.scaled(3.0) {
            timeout = 3;
        }
        if now < then + options.scaled(0.5) {
            limit = 1;
        }
    }
    account.polling.previous = Some((offset, now));
    let offset = begin(account, offset);
    let limit = usize::try_from(limit).unwrap_or(1);
    let page = page(account, offset, limit);
    if timeout == 0 || !page.is_empty() {
        return Answer::updates(&page);
    }
    abort(
        account,
        "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
        options,
    );
    let (waiting, aborted) = oneshot::channel();
    account.polling.waiting = Some(waiting);
    let seconds = u32::try_from(timeout).unwrap_or(0);
    Answer::updates(&[]).poll(Poll {
        offset,
        limit,
        end: now + options.scaled(seconds.into()),
        aborted,
    })
}

/// The answer that goes out, when it may.
pub(crate) async fn ready(mut answer: Answer, shared: &Shared, token: &str) -> Answer {
    match answer.wait.take() {
        None => answer,
        Some(Wait::Pause(pause)) => {
            tokio::time::sleep(pause).await;
            answer
        }
        Some(Wait::Updates(poll)) => match wait_for_updates(shared, token, poll).await {
            Some(other) => Box::pin(ready(other, shared, token)).await,
            None => answer,
        },
    }
}

/// The page or the error that ends a long poll; `None`: its time.
async fn wait_for_updates(shared: &Shared, token: &str, mut poll: Poll) -> Option<Answer> {
    let mut wakes = shared.wakes();
    loop {
        let page = shared.account(token, |account| {
            let page = if poll.aborted.is_empty() {
                page(account, poll.offset, poll.limit)
            } else {
                Vec::new()
            };
            if !page.is_empty() {
                account.polling.waiting = None;
            }
            page
        });
        if !page.is_empty() {
            return Some(Answer::updates(&page));
        }
        tokio::select! {
            // The other end is dropped only by the answer that it sends.
            other = &mut poll.aborted => return other.ok(),
            _ = wakes.changed() => {}
            () = tokio::time::sleep_until(poll.end.into()) => return None,
        }
        // Updates that come together are told together.
        tokio::time::sleep(shared.options.scaled(0.001)).await;
    }
}

/// A conflict. When there was another one just before, the answer comes late, so that nobody fights
/// too fast.
fn conflict(account: &mut Account, description: &str, options: &Options) -> Answer {
    let now = Instant::now();
    let pause = options.scaled(3.0);
    let answer = Answer::error(409, description);
    if account.polling.next_conflict.is_some_and(|next| now < next) {
        return answer.after(pause);
    }
    account.polling.next_conflict = Some(now + pause);
    answer
}

/// Ends a long poll that is waiting.
pub(crate) fn abort(account: &mut Account, description: &str, options: &Options) {
    if let Some(waiting) = account.polling.waiting.take()
        && !waiting.is_closed()
    {
        // Whoever asked may be gone by now.
        let _ = waiting.send(conflict(account, description, options));
    }
}

/// The id that an offset means. 0 is the first update there is; a negative one leaves so many from
/// the end, once.
fn begin(account: &mut Account, offset: i64) -> i64 {
    let all = account.queues.from(i64::MIN, usize::MAX);
    let kept = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
    let first = match offset {
        1.. => return offset,
        0 => all.first(),
        _ => all.get(all.len().saturating_sub(kept)),
    };
    first.map_or(account.next_update, |update| update.id)
}

/// A page of getUpdates: what comes before `offset` is gone for good.
fn page(account: &mut Account, offset: i64, limit: usize) -> Vec<Update> {
    let head = account
        .queues
        .from(i64::MIN, 1)
        .first()
        .map_or(account.next_update, |update| update.id);
    // What nobody can know yet, or any more, is not taken for an id.
    let is_far = offset > account.next_update + 10 || offset < head - MAX_UPDATES as i64;
    let offset = if is_far { head } else { offset };
    let now = Instant::now();
    for update in account
        .queues
        .from(i64::MIN, usize::MAX)
        .iter()
        .take_while(|update| update.id < offset)
    {
        account.confirmed.entry(update.id).or_insert(now);
    }
    account.queues.confirm(offset, now);

    let mut page = Vec::new();
    let mut left = MAX_PAGE;
    for update in account.queues.from(offset, limit) {
        left -= update.body.len() as i64;
        if left <= 0 {
            break;
        }
        page.push(update);
    }
    page
}
