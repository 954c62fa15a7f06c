//! The emulator, and what it keeps to itself but a paint needs: alacritty's terminal wrapped so that every command passes by here.

use alacritty_terminal::Term;
use alacritty_terminal::event::{Event, EventListener};
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::Cell;
use alacritty_terminal::term::{Config, TermMode};
use alacritty_terminal::vte::ansi::{
    Attr, CharsetIndex, ClearMode, CursorShape, CursorStyle, Handler, Hyperlink, KeyboardModes,
    KeyboardModesApplyBehavior, LineClearMode, Mode, ModifyOtherKeys, NamedPrivateMode,
    PrivateMode, Processor, Rgb, StandardCharset, TabulationClearMode, Timeout,
};
use berth_keeper_protocol::Size;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The most rows that the emulator itself keeps above the screen; they are turned into bytes long before.
const GRID_HISTORY: usize = 16 * 1024;

/// Modes that the emulator does not know and a client's terminal may: kept as they were set.
const PASSED_MODES: [u16; 6] = [9, 45, 1015, 1016, 1036, 2031];

/// A synchronized update is drawn as it comes: what is asked for in its midst is its midst.
#[derive(Debug, Default)]
struct Unsynchronized;

impl Timeout for Unsynchronized {
    fn set_timeout(&mut self, _: Duration) {}
    fn clear_timeout(&mut self) {}
    fn pending_timeout(&self) -> bool {
        false
    }
}

/// What the emulator says by itself.
#[derive(Debug, Default)]
struct Said {
    answers: Vec<u8>,
    title: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Listener(Arc<Mutex<Said>>);

impl Listener {
    fn with<T>(&self, act: impl FnOnce(&mut Said) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl EventListener for Listener {
    fn send_event(&self, event: Event) {
        match event {
            Event::PtyWrite(text) => {
                self.with(|said| said.answers.extend_from_slice(text.as_bytes()));
            }
            Event::Title(title) => self.with(|said| said.title = Some(title)),
            Event::ResetTitle => self.with(|said| said.title = None),
            _ => {}
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Cells(Size);

impl Dimensions for Cells {
    fn total_lines(&self) -> usize {
        self.screen_lines()
    }
    fn screen_lines(&self) -> usize {
        usize::from(self.0.rows.max(1))
    }
    fn columns(&self) -> usize {
        // The emulator needs room for a wide character.
        usize::from(self.0.cols.max(2))
    }
}

/// The emulator's state and what it hides.
pub(super) struct Tracked {
    pub(super) term: Term<Listener>,
    listener: Listener,
    pub(super) active_charset: CharsetIndex,
    /// First row and the row after the last.
    pub(super) region: (usize, usize),
    pub(super) cursor_style: Option<CursorStyle>,
    /// Absent: one each eight columns.
    pub(super) tabs: Option<Vec<bool>>,
    pub(super) passed_modes: BTreeSet<u16>,
    pub(super) modify_other_keys: u8,
    /// History was erased since this was last asked.
    pub(super) history_erased: bool,
}

/// A terminal of some size with its parser.
pub(super) struct Screen {
    parser: Processor<Unsynchronized>,
    pub(super) state: Tracked,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").finish_non_exhaustive()
    }
}

impl Screen {
    pub(super) fn new(size: Size) -> Self {
        let listener = Listener::default();
        let config = Config {
            scrolling_history: GRID_HISTORY,
            kitty_keyboard: true,
            ..Config::default()
        };
        let cells = Cells(size);
        Self {
            parser: Processor::new(),
            state: Tracked {
                term: Term::new(config, &cells, listener.clone()),
                listener,
                active_charset: CharsetIndex::G0,
                region: (0, cells.screen_lines()),
                cursor_style: None,
                tabs: None,
                passed_modes: BTreeSet::new(),
                modify_other_keys: 0,
                history_erased: false,
            },
        }
    }

    /// Reads bytes of the program's.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.state, bytes);
    }

    /// What the emulator answered to queries since this was last asked.
    pub(super) fn take_answers(&mut self) -> Vec<u8> {
        self.state
            .listener
            .with(|said| std::mem::take(&mut said.answers))
    }

    pub(super) fn title(&self) -> Option<String> {
        self.state.listener.with(|said| said.title.clone())
    }

    pub(super) fn resize(&mut self, size: Size) {
        let cells = Cells(size);
        self.state.term.resize(cells);
        self.state.region = (0, cells.screen_lines());
        if let Some(tabs) = &mut self.state.tabs {
            let mut column = tabs.len();
            tabs.resize_with(cells.columns(), || {
                column += 1;
                (column - 1).is_multiple_of(8)
            });
        }
    }

    pub(super) fn is_alternate(&self) -> bool {
        self.state.term.mode().contains(TermMode::ALT_SCREEN)
    }

    /// Whether printable text and line ends would do nothing but print and scroll: primary screen, nothing unusual set.
    pub(super) fn is_plain(&self) -> bool {
        let state = &self.state;
        let cursor = &state.term.grid().cursor;
        let mode = state.term.mode();
        !mode.intersects(TermMode::ALT_SCREEN | TermMode::INSERT | TermMode::ORIGIN)
            && mode.contains(TermMode::LINE_WRAP)
            && state.region == (0, state.term.screen_lines())
            && state.tabs.is_none()
            && cursor.charsets[state.active_charset] == StandardCharset::Ascii
            && cursor.template == Cell::default()
    }

    /// Whether the cursor stands at the begin of an empty last row.
    pub(super) fn is_at_bottom(&self) -> bool {
        let grid = self.state.term.grid();
        let point = grid.cursor.point;
        let last = Line(i32::try_from(grid.screen_lines()).unwrap_or(i32::MAX) - 1);
        point.line == last
            && point.column == Column(0)
            && grid[last][..].iter().all(|cell| *cell == Cell::default())
    }

    /// Empties the screen and the rows above it and puts the cursor to its begin; sets nothing else back.
    pub(super) fn clear(&mut self) {
        let grid = self.state.term.grid_mut();
        grid.clear_history();
        grid.reset_region(..);
        grid.cursor.point.line = Line(0);
        grid.cursor.point.column = Column(0);
        grid.cursor.input_needs_wrap = false;
    }

    /// Does something with the primary screen in place, also while the alternate one is shown.
    pub(super) fn with_primary<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        if !self.is_alternate() {
            return act(self);
        }
        // Leaving and entering empties the alternate screen, so it is put aside.
        let alternate = self.state.term.grid().clone();
        self.state.term.swap_alt();
        let done = act(self);
        self.state.term.swap_alt();
        *self.state.term.grid_mut() = alternate;
        done
    }

    /// Rows above the screen that are still in the grid. The alternate screen has none.
    pub(super) fn rows_above(&self) -> usize {
        self.state.term.grid().history_size()
    }

    /// Drops all rows above the screen but the newest so many.
    pub(super) fn keep_rows_above(&mut self, rows: usize) {
        let grid = self.state.term.grid_mut();
        grid.update_history(rows);
        grid.update_history(GRID_HISTORY);
    }
}

impl Tracked {
    fn toggle_alternate(&mut self, on: bool) {
        if self.term.mode().contains(TermMode::ALT_SCREEN) != on {
            self.term.swap_alt();
        }
    }

    fn default_tabs(&self) -> Vec<bool> {
        (0..self.term.columns())
            .map(|column| column.is_multiple_of(8))
            .collect()
    }
}

/// Hands commands to the emulator as they are.
macro_rules! pass {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {
        $(fn $name(&mut self $(, $argument: $kind)*) {
            <Term<Listener> as Handler>::$name(&mut self.term $(, $argument)*);
        })*
    };
}

impl Handler for Tracked {
    pass! {
        set_title(title: Option<String>);
        goto(line: i32, column: usize);
        goto_line(line: i32);
        goto_col(column: usize);
        insert_blank(count: usize);
        move_up(rows: usize);
        move_down(rows: usize);
        identify_terminal(intermediate: Option<char>);
        device_status(kind: usize);
        move_forward(columns: usize);
        move_backward(columns: usize);
        move_down_and_cr(rows: usize);
        move_up_and_cr(rows: usize);
        put_tab(count: u16);
        backspace();
        carriage_return();
        linefeed();
        newline();
        scroll_up(rows: usize);
        scroll_down(rows: usize);
        insert_blank_lines(count: usize);
        delete_lines(count: usize);
        erase_chars(count: usize);
        delete_chars(count: usize);
        move_backward_tabs(count: u16);
        move_forward_tabs(count: u16);
        save_cursor_position();
        restore_cursor_position();
        clear_line(mode: LineClearMode);
        reverse_index();
        terminal_attribute(attribute: Attr);
        set_mode(mode: Mode);
        unset_mode(mode: Mode);
        report_mode(mode: Mode);
        report_private_mode(mode: PrivateMode);
        set_keypad_application_mode();
        unset_keypad_application_mode();
        configure_charset(index: CharsetIndex, charset: StandardCharset);
        set_color(index: usize, color: Rgb);
        reset_color(index: usize);
        decaln();
        push_title();
        pop_title();
        text_area_size_chars();
        set_hyperlink(link: Option<Hyperlink>);
        push_keyboard_mode(mode: KeyboardModes);
        pop_keyboard_modes(count: u16);
        set_keyboard_mode(mode: KeyboardModes, behavior: KeyboardModesApplyBehavior);
    }

    #[inline]
    fn input(&mut self, character: char) {
        self.term.input(character);
    }

    fn set_active_charset(&mut self, index: CharsetIndex) {
        self.active_charset = index;
        self.term.set_active_charset(index);
    }

    fn set_cursor_style(&mut self, style: Option<CursorStyle>) {
        self.cursor_style = style;
        self.term.set_cursor_style(style);
    }

    fn set_cursor_shape(&mut self, shape: CursorShape) {
        self.cursor_style.get_or_insert_default().shape = shape;
        self.term.set_cursor_shape(shape);
    }

    fn set_horizontal_tabstop(&mut self) {
        let column = self.term.grid().cursor.point.column.0;
        let mut tabs = self.tabs.take().unwrap_or_else(|| self.default_tabs());
        if let Some(tab) = tabs.get_mut(column) {
            *tab = true;
        }
        self.tabs = Some(tabs);
        self.term.set_horizontal_tabstop();
    }

    fn clear_tabs(&mut self, mode: TabulationClearMode) {
        let column = self.term.grid().cursor.point.column.0;
        let mut tabs = self.tabs.take().unwrap_or_else(|| self.default_tabs());
        match mode {
            TabulationClearMode::Current => {
                if let Some(tab) = tabs.get_mut(column) {
                    *tab = false;
                }
            }
            TabulationClearMode::All => tabs.fill(false),
        }
        self.tabs = Some(tabs);
        self.term.clear_tabs(mode);
    }

    fn set_tabs(&mut self, _: u16) {
        // `CSI ? 5 W`: the usual stops. The emulator has no such command, so each is set.
        let columns = self.term.columns();
        let column = self.term.grid().cursor.point.column;
        self.term.clear_tabs(TabulationClearMode::All);
        for stop in (0..columns).step_by(8) {
            self.term.grid_mut().cursor.point.column = Column(stop);
            self.term.set_horizontal_tabstop();
        }
        self.term.grid_mut().cursor.point.column = column;
        self.tabs = None;
    }

    fn clear_screen(&mut self, mode: ClearMode) {
        match mode {
            // Erasing the screen does not move it into history: xterm's rule, which clients follow.
            ClearMode::All => self.term.grid_mut().reset_region(..),
            ClearMode::Saved => {
                self.history_erased = true;
                self.term.clear_screen(mode);
            }
            ClearMode::Above => {
                // The emulator forgets the first row when the cursor is in the second.
                if self.term.grid().cursor.point.line == Line(1) {
                    self.term.grid_mut().reset_region(..Line(1));
                }
                self.term.clear_screen(mode);
            }
            ClearMode::Below => self.term.clear_screen(mode),
        }
    }

    fn reset_state(&mut self) {
        self.history_erased = true;
        self.active_charset = CharsetIndex::G0;
        self.region = (0, self.term.screen_lines());
        self.cursor_style = None;
        self.tabs = None;
        self.passed_modes.clear();
        self.modify_other_keys = 0;
        self.listener.with(|said| said.title = None);
        self.term.reset_state();
    }

    fn set_scrolling_region(&mut self, top: usize, bottom: Option<usize>) {
        let rows = self.term.screen_lines();
        let bottom = bottom.unwrap_or(rows).min(rows);
        if top < 1 || top >= bottom {
            return;
        }
        self.region = (top - 1, bottom);
        self.term.set_scrolling_region(top, Some(bottom));
    }

    fn set_private_mode(&mut self, mode: PrivateMode) {
        match mode {
            PrivateMode::Named(NamedPrivateMode::ColumnMode) => {}
            PrivateMode::Named(NamedPrivateMode::BlinkingCursor) => {
                self.cursor_style.get_or_insert_default().blinking = true;
                self.term.set_private_mode(mode);
            }
            PrivateMode::Named(_) => self.term.set_private_mode(mode),
            PrivateMode::Unknown(47 | 1047) => self.toggle_alternate(true),
            PrivateMode::Unknown(1048) => self.term.save_cursor_position(),
            PrivateMode::Unknown(number) if PASSED_MODES.contains(&number) => {
                self.passed_modes.insert(number);
            }
            PrivateMode::Unknown(_) => {}
        }
    }

    fn unset_private_mode(&mut self, mode: PrivateMode) {
        match mode {
            PrivateMode::Named(NamedPrivateMode::ColumnMode) => {}
            PrivateMode::Named(NamedPrivateMode::BlinkingCursor) => {
                self.cursor_style.get_or_insert_default().blinking = false;
                self.term.unset_private_mode(mode);
            }
            PrivateMode::Named(_) => self.term.unset_private_mode(mode),
            PrivateMode::Unknown(47 | 1047) => self.toggle_alternate(false),
            PrivateMode::Unknown(1048) => self.term.restore_cursor_position(),
            PrivateMode::Unknown(number) => {
                self.passed_modes.remove(&number);
            }
        }
    }

    fn dynamic_color_sequence(&mut self, prefix: String, index: usize, terminator: &str) {
        let color = self.term.colors()[index.min(268)].unwrap_or(match index {
            256 | 258 => Rgb {
                r: 0xe5,
                g: 0xe5,
                b: 0xe5,
            },
            257 => Rgb { r: 0, g: 0, b: 0 },
            // Only what the screen is drawn on is worth an answer; a palette that nobody shows is not.
            _ => return,
        });
        let answer = format!(
            "\x1b]{prefix};rgb:{0:02x}{0:02x}/{1:02x}{1:02x}/{2:02x}{2:02x}{terminator}",
            color.r, color.g, color.b
        );
        self.listener
            .with(|said| said.answers.extend_from_slice(answer.as_bytes()));
    }

    fn set_modify_other_keys(&mut self, mode: ModifyOtherKeys) {
        self.modify_other_keys = match mode {
            ModifyOtherKeys::Reset => 0,
            ModifyOtherKeys::EnableExceptWellDefined => 1,
            ModifyOtherKeys::EnableAll => 2,
        };
    }
}
