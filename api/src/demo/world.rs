//! The company's world: whom it sells to, the people there, and what it hopes to sell.

use fastrand::Rng;

/// 2026-06-01T00:00:00Z: the day of the first drop. Nothing here reads a clock.
pub const TODAY_SECONDS: i64 = 1_780_272_000;
/// Seconds in a day.
pub const DAY_SECONDS: i64 = 86_400;

/// Customers in all systems together; each system knows a range of them, so that some are known to several.
pub const CUSTOMERS: usize = 320;

/// Where a customer is, in what it pays and how its number begins.
#[derive(Debug, Clone, Copy)]
pub struct Country {
    /// ISO 4217.
    pub currency: &'static str,
    /// The beginning of a telephone number.
    pub dial: &'static str,
    /// What companies there are called.
    pub suffix: &'static str,
    /// The end of a domain.
    pub domain: &'static str,
}

const COUNTRIES: [Country; 5] = [
    Country { currency: "USD", dial: "+1 555", suffix: "Inc.", domain: "com" },
    Country { currency: "USD", dial: "+1 555", suffix: "LLC", domain: "io" },
    Country { currency: "EUR", dial: "+49 30", suffix: "GmbH", domain: "de" },
    Country { currency: "GBP", dial: "+44 20", suffix: "Ltd", domain: "co.uk" },
    Country { currency: "EUR", dial: "+33 1", suffix: "SA", domain: "fr" },
];

/// A person of the company's own sales team.
#[derive(Debug, Clone, Copy)]
pub struct Seller {
    /// Full name.
    pub name: &'static str,
    /// Address.
    pub email: &'static str,
}

/// The sales team.
pub const SELLERS: [Seller; 8] = [
    Seller { name: "Maya Okonkwo", email: "maya.okonkwo@northwind.example" },
    Seller { name: "Jonas Lindqvist", email: "jonas.lindqvist@northwind.example" },
    Seller { name: "Priya Raman", email: "priya.raman@northwind.example" },
    Seller { name: "Tomás Herrera", email: "tomas.herrera@northwind.example" },
    Seller { name: "Siobhan O'Neill", email: "siobhan.oneill@northwind.example" },
    Seller { name: "Kenji Watanabe", email: "kenji.watanabe@northwind.example" },
    Seller { name: "Élodie Marchand", email: "elodie.marchand@northwind.example" },
    Seller { name: "Daniel Weber", email: "daniel.weber@northwind.example" },
];

const FIRST_PARTS: [&str; 20] = [
    "Alder",
    "Beacon",
    "Cobalt",
    "Delta",
    "Ember",
    "Falcon",
    "Granite",
    "Harbor",
    "Iron",
    "Juniper",
    "Keystone",
    "Lumen",
    "Meridian",
    "Nimbus",
    "Orchard",
    "Pioneer",
    "Quartz",
    "Redwood",
    "Summit",
    "Tidewater",
];
const SECOND_PARTS: [&str; 16] = [
    "Analytics",
    "Foods",
    "Health",
    "Insurance",
    "Labs",
    "Logistics",
    "Mobility",
    "Networks",
    "Pharma",
    "Retail",
    "Robotics",
    "Software",
    "Steel",
    "Systems",
    "Textiles",
    "Travel",
];
const INDUSTRIES: [&str; 8] = [
    "Technology",
    "Manufacturing",
    "Healthcare",
    "Financial Services",
    "Retail",
    "Transportation",
    "Food & Beverage",
    "Energy",
];
/// Given names, as written and as in an address.
const FIRST_NAMES: [(&str, &str); 16] = [
    ("Ana", "ana"),
    ("Björn", "bjorn"),
    ("Chidi", "chidi"),
    ("Dolores", "dolores"),
    ("Émile", "emile"),
    ("Fatima", "fatima"),
    ("Grace", "grace"),
    ("Hiroshi", "hiroshi"),
    ("Ines", "ines"),
    ("Jakub", "jakub"),
    ("Leila", "leila"),
    ("Marco", "marco"),
    ("Noor", "noor"),
    ("Oskar", "oskar"),
    ("Rosa", "rosa"),
    ("Yusuf", "yusuf"),
];
const LAST_NAMES: [(&str, &str); 16] = [
    ("Andersson", "andersson"),
    ("Bianchi", "bianchi"),
    ("Chen", "chen"),
    ("Dubois", "dubois"),
    ("Eze", "eze"),
    ("Fischer", "fischer"),
    ("García", "garcia"),
    ("Haddad", "haddad"),
    ("Ivanova", "ivanova"),
    ("Jones", "jones"),
    ("Kowalski", "kowalski"),
    ("Müller", "mueller"),
    ("Novák", "novak"),
    ("O'Brien", "obrien"),
    ("Silva", "silva"),
    ("Tanaka", "tanaka"),
];
const JOBS: [(&str, &str); 8] = [
    ("Chief Information Officer", "IT"),
    ("Head of Procurement", "Procurement"),
    ("Data Engineer", "Engineering"),
    ("VP Operations", "Operations"),
    ("Finance Director", "Finance"),
    ("Product Manager", "Product"),
    ("Security Lead", "IT"),
    ("Marketing Manager", "Marketing"),
];
const PRODUCTS: [&str; 6] = ["Platform", "Analytics", "Support Plan", "Migration", "Licences", "Training"];

/// The stages of a sale in the order they are passed, with the probability of each in percent. The last two are ends.
pub const STAGE_PERCENT: [u32; 7] = [10, 25, 40, 60, 80, 100, 0];
/// The place of the won stage.
pub const WON: usize = 5;
/// The kinds of sale.
pub const KINDS: [&str; 3] = ["New Business", "Renewal", "Upsell"];

/// A company that one sells to.
#[derive(Debug, Clone)]
pub struct Customer {
    /// Its number in the world.
    pub number: u64,
    /// Its name; some have commas and quotes.
    pub name: String,
    /// Its domain.
    pub domain: String,
    /// Its trade.
    pub industry: &'static str,
    /// Where it is.
    pub country: Country,
    /// How many work there.
    pub employees: u32,
    /// What it turns over in a year.
    pub revenue: u64,
    /// Its number to call.
    pub phone: String,
    /// The place of its seller.
    pub seller: usize,
    /// Whether it buys already.
    pub active: bool,
}

/// Somebody who works at a customer.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their number in the world.
    pub number: u64,
    /// The place of their customer.
    pub customer: usize,
    /// Given name.
    pub first: &'static str,
    /// Family name.
    pub last: &'static str,
    /// Address.
    pub email: String,
    /// Their number to call.
    pub phone: String,
    /// Job title.
    pub title: &'static str,
    /// Department.
    pub department: &'static str,
}

/// Something that may be sold.
#[derive(Debug, Clone)]
pub struct Deal {
    /// Its number in the world.
    pub number: u64,
    /// The place of its customer.
    pub customer: usize,
    /// What it is called.
    pub name: String,
    /// The place in [`STAGE_PERCENT`].
    pub stage: usize,
    /// What it is worth; nothing has been said yet of some.
    pub amount_cents: Option<u64>,
    /// Days since 1970 of the day it closes.
    pub close_day: i32,
    /// The place of its seller.
    pub seller: usize,
    /// The place in [`KINDS`].
    pub kind: usize,
}

/// Everybody there is.
#[derive(Debug)]
pub struct World {
    /// The customers, by number.
    pub customers: Vec<Customer>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self { customers: (0..CUSTOMERS).map(|number| customer(&mut rng, number)).collect() }
    }

    /// A person at a customer of the range.
    pub fn person(&self, rng: &mut Rng, number: u64, customers: std::ops::Range<usize>) -> Person {
        let customer = rng.usize(customers);
        let (first, last) = (FIRST_NAMES[rng.usize(..16)], LAST_NAMES[rng.usize(..16)]);
        let (title, department) = JOBS[rng.usize(..JOBS.len())];
        let at = &self.customers[customer];
        Person {
            number,
            customer,
            first: first.0,
            last: last.0,
            email: format!("{}.{}{}@{}", first.1, last.1, number % 100, at.domain),
            phone: format!("{} {:07}", at.country.dial, rng.u32(1_000_000..10_000_000)),
            title,
            department,
        }
    }

    /// A deal with a customer of the range; the day it closes fits its stage.
    pub fn deal(&self, rng: &mut Rng, number: u64, customers: std::ops::Range<usize>) -> Deal {
        let customer = rng.usize(customers);
        let at = &self.customers[customer];
        let stage = rng.usize(..STAGE_PERCENT.len());
        let today = (TODAY_SECONDS / DAY_SECONDS) as i32;
        let close_day = if stage >= WON { today - rng.i32(1..300) } else { today + rng.i32(5..240) };
        let typical = at.revenue / 400 + 2_000;
        let amount_cents = match rng.u32(..40) {
            0 => None,
            1 => Some(0),
            _ => Some(rng.u64(typical / 4..typical * 2) * 100 + u64::from(rng.u32(..4)) * 25),
        };
        let product = PRODUCTS[rng.usize(..PRODUCTS.len())];
        Deal {
            number,
            customer,
            name: format!("{} {product} {}", at.name, 2024 + number % 3),
            stage,
            amount_cents,
            close_day,
            seller: at.seller,
            kind: rng.usize(..KINDS.len()),
        }
    }
}

fn customer(rng: &mut Rng, number: usize) -> Customer {
    let (first, second) = (FIRST_PARTS[number % 20], SECOND_PARTS[number / 20 % 16]);
    let country = COUNTRIES[rng.usize(..COUNTRIES.len())];
    let name = match number % 23 {
        0 => format!("{first}, {second} & Partners {}", country.suffix),
        1 => format!("\"{first}\" {second} {}", country.suffix),
        _ => format!("{first} {second} {}", country.suffix),
    };
    let employees = 10 + rng.u32(..30) * rng.u32(1..200);
    Customer {
        number: number as u64,
        name,
        domain: format!("{}-{}.{}", first.to_lowercase(), second.to_lowercase(), country.domain),
        industry: INDUSTRIES[rng.usize(..INDUSTRIES.len())],
        country,
        employees,
        revenue: u64::from(employees) * rng.u64(80..400) * 1000,
        phone: format!("{} {:07}", country.dial, rng.u32(1_000_000..10_000_000)),
        seller: rng.usize(..SELLERS.len()),
        active: rng.u32(..3) > 0,
    }
}
