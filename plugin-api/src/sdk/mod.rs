//! What stands between an author's plugin and the frozen binary form.

mod export;
