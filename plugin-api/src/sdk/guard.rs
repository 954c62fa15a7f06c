//! A panic becomes an error before it can leave the library: across the boundary it would end the host.

use crate::{Code, Error, Result};
use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

thread_local! {
    /// Where this thread panicked last, as the library's panic hook saw it.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps where a panic happened, for the error that is made of it.
pub(super) fn note_place(place: String) {
    PLACE.with_borrow_mut(|last| *last = Some(place));
}

/// Runs `work`; a panic is an error.
pub(super) fn catch<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(error_of(payload)))
}

/// Awaits `work`; a panic is an error.
pub(super) async fn catch_async<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = Box::pin(work);
    poll_fn(
        move |cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(payload) => Poll::Ready(Err(error_of(payload))),
        },
    )
    .await
}

/// The error that a panic becomes.
pub(super) fn error_of(payload: Box<dyn Any + Send>) -> Error {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    // A payload may panic when it is dropped, so it never is.
    Box::leak(payload);
    let place = PLACE
        .with_borrow_mut(Option::take)
        .map(|place| format!(" at {place}"))
        .unwrap_or_default();
    Error::new(
        Code::Panic,
        format!("the plugin panicked{place}: {message}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let error = catch::<()>(|| panic!("boom {}", 1)).unwrap_err();
        assert_eq!(error.code, Code::Panic);
        assert!(error.message.ends_with("boom 1"), "{}", error.message);
        assert_eq!(catch(|| Ok(1)), Ok(1));
    }

    #[tokio::test]
    async fn a_panic_after_an_await_is_an_error() {
        let error = catch_async::<()>(async {
            tokio::task::yield_now().await;
            panic!("late");
        })
        .await
        .unwrap_err();
        assert_eq!(error.code, Code::Panic);
        assert!(error.message.ends_with("late"), "{}", error.message);
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_left_alone() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let error = catch::<()>(|| std::panic::panic_any(Bomb)).unwrap_err();
        assert_eq!(error.code, Code::Panic);
    }
}
