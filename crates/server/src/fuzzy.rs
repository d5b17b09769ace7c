//! How well a name fits what somebody types: as a subsequence of it, or by Jaro-Winkler. Scores
//! are those of Prometheus' search API: 1 for what begins with the term, less for gaps.

/// How a term may differ from a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FuzzyKind {
    /// The term's characters must come in order.
    Subsequence,
    /// The term must be in the name, or be alike by Jaro-Winkler.
    JaroWinkler,
}

/// What a name must be like.
#[derive(Debug, Clone)]
pub struct Filter {
    terms: Vec<Vec<char>>,
    threshold: f64,
    kind: FuzzyKind,
    is_case_sensitive: bool,
}

impl Filter {
    /// A filter by any of the terms; `None` when there is nothing to filter by.
    pub fn new(
        terms: &[&str],
        threshold: f64,
        kind: FuzzyKind,
        is_case_sensitive: bool,
    ) -> Option<Self> {
        let terms: Vec<Vec<char>> = terms
            .iter()
            .filter(|term| !term.is_empty())
            .map(|term| folded(term, is_case_sensitive))
            .collect();
        (!terms.is_empty()).then_some(Self {
            terms,
            threshold,
            kind,
            is_case_sensitive,
        })
    }

    /// How well a name fits, above 0 to 1; `None` when it does not.
    pub fn score(&self, name: &str) -> Option<f64> {
        let name = folded(name, self.is_case_sensitive);
        let scores = self.terms.iter().filter_map(|term| match self.kind {
            FuzzyKind::Subsequence => self.by_subsequence(term, &name),
            FuzzyKind::JaroWinkler => self.by_likeness(term, &name),
        });
        scores.fold(None, |best: Option<f64>, score| {
            Some(best.map_or(score, |best| best.max(score)))
        })
    }

    fn by_subsequence(&self, term: &[char], name: &[char]) -> Option<f64> {
        if name.starts_with(term) {
            return Some(1.0);
        }
        let score = subsequence(term, name);
        (score > 0.0 && score >= self.threshold).then_some(score)
    }

    fn by_likeness(&self, term: &[char], name: &[char]) -> Option<f64> {
        if let Some(at) = name.windows(term.len()).position(|window| window == term) {
            let last = name.len() - term.len();
            let score = 1.0 - 0.9 * at as f64 / last.max(1) as f64;
            return Some(if at == 0 { 1.0 } else { score });
        }
        if self.threshold <= 0.0 {
            return None;
        }
        let score = jaro_winkler(term, name);
        (score >= self.threshold).then_some(score)
    }
}

fn folded(text: &str, is_case_sensitive: bool) -> Vec<char> {
    if is_case_sensitive {
        text.chars().collect()
    } else {
        text.to_lowercase().chars().collect()
    }
}

/// The best score over all places where the term can begin: the squares of the lengths of its
/// runs, less the gaps between them as parts of the name's length, half of that at the end.
fn subsequence(term: &[char], name: &[char]) -> f64 {
    if term.len() > name.len() {
        return 0.0;
    }
    let mut best = -1.0_f64;
    for start in 0..=name.len() - term.len() {
        if name[start] != term[0] {
            continue;
        }
        match from(term, name, start) {
            Some(score) => best = best.max(score),
            // Later there is even less of the name left.
            None => break,
        }
    }
    if best < 0.0 {
        return 0.0;
    }
    best / (term.len() * term.len()) as f64 * 0.999
}

fn from(term: &[char], name: &[char], start: usize) -> Option<f64> {
    let part = |gap: usize| gap as f64 / name.len() as f64;
    let (mut at, mut taken, mut end) = (start, 0, 0);
    let mut score = 0.0;
    while taken < term.len() {
        let gap = name[at..].iter().position(|c| *c == term[taken])?;
        at += gap;
        score -= part(at - end);
        let run = name[at..]
            .iter()
            .zip(&term[taken..])
            .take_while(|(a, b)| a == b)
            .count();
        score += (run * run) as f64;
        taken += run;
        at += run;
        end = at;
    }
    Some(score - part(name.len() - end) * 0.5)
}

/// Winkler's similarity: Jaro's, raised by a common start of up to four characters.
fn jaro_winkler(a: &[char], b: &[char]) -> f64 {
    let jaro = jaro(a, b);
    let common = a.iter().zip(b).take(4).take_while(|(x, y)| x == y).count();
    jaro + common as f64 * 0.1 * (1.0 - jaro)
}

fn jaro(a: &[char], b: &[char]) -> f64 {
    let (a, b) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if a.is_empty() {
        return 0.0;
    }
    let reach = (b.len() / 2).saturating_sub(1);
    let mut used = vec![false; b.len()];
    let mut matched = Vec::new();
    for (i, c) in a.iter().enumerate() {
        let window = i.saturating_sub(reach)..b.len().min(i + reach + 1);
        let mut window = window.filter(|j| !used[*j] && b[*j] == *c);
        if let Some(j) = window.next() {
            used[j] = true;
            matched.push(*c);
        }
    }
    if matched.is_empty() {
        return 0.0;
    }
    let theirs = b.iter().zip(&used).filter(|(_, used)| **used);
    let swapped = theirs.zip(&matched).filter(|((a, _), b)| a != b).count();
    let count = matched.len() as f64;
    (count / a.len() as f64 + count / b.len() as f64 + (count - swapped as f64 / 2.0) / count) / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(term: &str, name: &str) -> Option<f64> {
        Filter::new(&[term], 0.0, FuzzyKind::Subsequence, true)?.score(name)
    }

    #[test]
    fn what_begins_with_the_term_fits_best() {
        assert_eq!(score("http", "http_requests_total"), Some(1.0));
        let inner = score("req", "http_requests_total").unwrap();
        let spread = score("hrt", "http_requests_total").unwrap();
        assert!(
            1.0 > inner && inner > spread && spread > 0.0,
            "{inner} {spread}"
        );
        assert_eq!(score("xyz", "http_requests_total"), None);
        assert_eq!(score("longer", "short"), None);
    }

    #[test]
    fn likeness_needs_a_threshold() {
        let of = |threshold| Filter::new(&["HTPT"], threshold, FuzzyKind::JaroWinkler, false);
        assert_eq!(of(0.0).unwrap().score("http"), None);
        assert!(of(0.5).unwrap().score("http").unwrap() > 0.8);
        assert!((jaro(&['a'; 3], &['a'; 3]) - 1.0).abs() < 1e-9);
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let known = jaro_winkler(&chars("martha"), &chars("marhta"));
        assert!((known - 0.961_111).abs() < 1e-5, "{known}");
    }
}
