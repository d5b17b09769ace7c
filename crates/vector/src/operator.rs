//! Operators and what they give of two numbers.

/// An operator that computes a number of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
}

impl Arithmetic {
    /// The result by IEEE 754; `%` takes the sign of the dividend.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Modulo => a % b,
            Self::Power => a.powf(b),
            Self::Atan2 => a.atan2(b),
        }
    }
}

/// An operator that keeps or drops a value, or says 1 or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Whether it holds; with NaN only `!=` does.
    pub fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
        }
    }
}

/// An operator on the label sets of two vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SetOp {
    And,
    Or,
    Unless,
}

/// An operator that cuts a histogram off at a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Trim {
    Upper,
    Lower,
}

/// Any of them, as both languages write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `+` and the like.
    Arithmetic(Arithmetic),
    /// `>` and the like.
    Comparison(Comparison),
    /// `and`, `or`, `unless`.
    Set(SetOp),
    /// `</`, `>/`.
    Trim(Trim),
}

const NAMES: [(&str, Operator); 18] = [
    ("+", Operator::Arithmetic(Arithmetic::Add)),
    ("-", Operator::Arithmetic(Arithmetic::Subtract)),
    ("*", Operator::Arithmetic(Arithmetic::Multiply)),
    ("/", Operator::Arithmetic(Arithmetic::Divide)),
    ("%", Operator::Arithmetic(Arithmetic::Modulo)),
    ("^", Operator::Arithmetic(Arithmetic::Power)),
    ("atan2", Operator::Arithmetic(Arithmetic::Atan2)),
    ("==", Operator::Comparison(Comparison::Equal)),
    ("!=", Operator::Comparison(Comparison::NotEqual)),
    ("<=", Operator::Comparison(Comparison::LessOrEqual)),
    ("<", Operator::Comparison(Comparison::Less)),
    (">=", Operator::Comparison(Comparison::GreaterOrEqual)),
    (">", Operator::Comparison(Comparison::Greater)),
    ("and", Operator::Set(SetOp::And)),
    ("or", Operator::Set(SetOp::Or)),
    ("unless", Operator::Set(SetOp::Unless)),
    ("</", Operator::Trim(Trim::Upper)),
    (">/", Operator::Trim(Trim::Lower)),
];

impl Operator {
    /// The operator of a sign or word.
    pub fn of(text: &str) -> Option<Self> {
        NAMES.iter().find(|(n, _)| *n == text).map(|(_, op)| *op)
    }

    /// Its sign or word.
    pub fn as_str(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, op)| *op == self)
            .map_or("", |(n, _)| n)
    }

    /// How tightly it binds; a power binds to the right, all others to the left.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Set(SetOp::Or) => 1,
            Self::Set(_) => 2,
            Self::Comparison(_) | Self::Trim(_) => 3,
            Self::Arithmetic(Arithmetic::Add | Arithmetic::Subtract) => 4,
            Self::Arithmetic(Arithmetic::Power) => 6,
            Self::Arithmetic(_) => 5,
        }
    }

    /// The result of two numbers; `None` where a comparison that filters does not hold, and
    /// for sets.
    pub fn apply(self, returns_bool: bool, a: f64, b: f64) -> Option<f64> {
        match self {
            Self::Arithmetic(op) => Some(op.apply(a, b)),
            Self::Comparison(op) if returns_bool => Some(f64::from(u8::from(op.holds(a, b)))),
            Self::Comparison(op) => op.holds(a, b).then_some(a),
            Self::Set(_) | Self::Trim(_) => None,
        }
    }
}
