//! The table of what was measured.

use std::time::Duration;

/// The rows so far.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    rows: Vec<[String; 4]>,
}

impl Figures {
    /// A figure without a goal.
    pub(crate) fn add(&mut self, what: &str, figure: impl Into<String>) {
        self.push(what, figure.into(), String::new(), "");
    }

    /// A figure, its goal, and whether it was reached.
    pub(crate) fn judge(&mut self, what: &str, figure: impl Into<String>, goal: &str, held: bool) {
        self.push(
            what,
            figure.into(),
            goal.to_owned(),
            if held { "yes" } else { "NO" },
        );
    }

    fn push(&mut self, what: &str, figure: String, goal: String, held: &str) {
        let row = [what.to_owned(), figure, goal, held.to_owned()];
        tell(&format!("{}: {}", row[0], row[1]));
        self.rows.push(row);
    }

    /// Writes the table as Markdown.
    #[expect(clippy::print_stdout, reason = "the table is what the program is for")]
    pub(crate) fn print(&self) {
        println!("\n| what | figure | goal | holds |\n| --- | --- | --- | --- |");
        for [what, figure, goal, held] in &self.rows {
            println!("| {what} | {figure} | {goal} | {held} |");
        }
    }
}

/// Says something on the way.
#[expect(clippy::print_stderr, reason = "so that a person sees it move")]
pub(crate) fn tell(text: &str) {
    eprintln!("{text}");
}

/// The value below which so large a share lies.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((values.len().saturating_sub(1)) as f64 * share).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Megabytes of so many bytes.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
