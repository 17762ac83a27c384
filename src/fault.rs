//! Where the crash tests end the process: between the steps of durability.
//!
//! `CRASHTEST_AT=point:n` aborts it the n-th time it comes to that point. In debug builds only.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Fault {
        point: String,
        left: AtomicU32,
    }

    pub fn point(name: &str) {
        static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
        let armed = FAULT.get_or_init(|| {
            let text = std::env::var("CRASHTEST_AT").ok()?;
            let (point, times) = text.split_once(':')?;
            Some(Fault { point: point.to_owned(), left: AtomicU32::new(times.parse().ok()?) })
        });
        if let Some(fault) = armed.as_ref().filter(|fault| fault.point == name)
            && fault.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            std::process::abort();
        }
    }
}

/// Does nothing, unless a test asked the process to end here.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}
