//! Just enough SVG for charts: shapes by class, so that the page's style sheet decides on colours, light or dark.

use std::fmt::Write;

/// A drawing that grows shape by shape. Lengths are in its own units; the page scales it.
pub struct Svg {
    width: f64,
    height: f64,
    /// For screen readers.
    title: String,
    body: String,
}

/// Where a text stands on its point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    /// The text begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

impl Svg {
    /// An empty drawing.
    pub fn new(width: f64, height: f64, title: &str) -> Svg {
        Svg {
            width,
            height,
            title: title.into(),
            body: String::new(),
        }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(short);
        self.put(format_args!(
            r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#
        ));
    }

    /// A line through many points.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points = joined(points);
        self.put(format_args!(r#"<polyline class="{class}" points="{points}"/>"#));
    }

    /// A filled area.
    pub fn area(&mut self, class: &str, points: &[(f64, f64)]) {
        let points = joined(points);
        self.put(format_args!(r#"<polygon class="{class}" points="{points}"/>"#));
    }

    /// A rectangle; `tip` is shown by the pointer.
    pub fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), tip: &str) {
        let [x, y, width, height] = [x, y, width.max(0.0), height].map(short);
        let tip = escape(tip);
        self.put(format_args!(
            r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}"><title>{tip}</title></rect>"#
        ));
    }

    /// A disc; `tip` is shown by the pointer.
    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, tip: &str) {
        let [x, y, radius] = [x, y, radius].map(short);
        let tip = escape(tip);
        self.put(format_args!(
            r#"<circle class="{class}" cx="{x}" cy="{y}" r="{radius}"><title>{tip}</title></circle>"#
        ));
    }

    /// A text on one line.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let ([x, y], text) = ([x, y].map(short), escape(text));
        self.put(format_args!(
            r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// Shapes inside a window with its own origin; what leaves the window is cut off.
    pub fn window(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), draw: impl FnOnce(&mut Svg)) {
        let [x, y, width, height] = [x, y, width, height].map(short);
        self.put(format_args!(
            r#"<svg x="{x}" y="{y}" width="{width}" height="{height}">"#
        ));
        draw(self);
        self.put(format_args!("</svg>"));
    }

    /// The element, to stand inside HTML.
    pub fn finish(self) -> String {
        let ([width, height], title) = ([self.width, self.height].map(short), escape(&self.title));
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n{}</svg>",
            self.body
        )
    }

    /// A file of its own, with its style sheet.
    pub fn finish_alone(self, style: &str) -> String {
        let [width, height] = [self.width, self.height].map(short);
        let element = self.finish();
        let (start, rest) = element.split_once('>').unwrap_or((&element, ""));
        let start = start.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1);
        format!("{start} width=\"{width}\" height=\"{height}\">\n<style>\n{style}</style>{rest}\n")
    }

    fn put(&mut self, shape: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{shape}");
    }
}

/// Tenths of a unit are finer than a screen shows; zeros at the end and minus zero are dropped.
fn short(x: f64) -> String {
    let text = format!("{x:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    (if text == "-0" { "0" } else { text }).into()
}

fn joined(points: &[(f64, f64)]) -> String {
    let points: Vec<String> = points
        .iter()
        .map(|&(x, y)| format!("{},{}", short(x), short(y)))
        .collect();
    points.join(" ")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        let mut svg = Svg::new(10.0, 5.0, "a \"b\"");
        svg.text("t", (1.0, -0.04), Anchor::End, "<b>&");
        svg.dot("d", (1.25, 2.0), 3.0, "<i>");
        let text = svg.finish();
        assert!(text.contains(r#"aria-label="a &quot;b&quot;""#), "{text}");
        assert!(
            text.contains(r#"x="1" y="0" text-anchor="end">&lt;b&gt;&amp;<"#),
            "{text}"
        );
        assert!(text.contains("<title>&lt;i&gt;</title>"), "{text}");
    }
}
