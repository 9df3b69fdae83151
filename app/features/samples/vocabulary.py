"""The vocabulary of the sample products: a tree of shelves, the product lines on each, and the variants of a line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """One variant of a product line."""

    code: str
    label: str
    #: In per cent of the line's price.
    price: int = 100
    attributes: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """The variants of a product line, and the sentence of the description that names the variant."""

    sentence: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Line:
    """A product line: a name that begins with a given name, a price in whole currency units, and a description."""

    name: str
    price: int
    text: str
    choice: Choice


@dataclass(frozen=True)
class Shelf:
    """A leaf category and its product lines; ``code`` is the prefix of their skus.

    With a ``type``, one of `TYPES`, each line is a parent and its options are variants.
    """

    code: str
    tags: tuple[str, ...]
    lines: tuple[Line, ...]
    type: str | None = None


WOODS = Choice(
    "The wood is {label}, finished with hard oil.",
    (
        Option("OAK", "oak", 100, {"material": "oak"}),
        Option("WAL", "walnut", 130, {"material": "walnut"}),
        Option("ASH", "ash", 95, {"material": "ash"}),
        Option("BLK", "black-stained ash", 100, {"material": "ash", "colour": "black"}),
    ),
)
FABRICS = Choice(
    "The cover in {label} comes off for washing.",
    (
        Option("SND", "sand", 100, {"colour": "sand"}),
        Option("MOS", "moss green", 100, {"colour": "moss green"}),
        Option("RST", "rust", 100, {"colour": "rust"}),
        Option("CHA", "charcoal", 105, {"colour": "charcoal"}),
    ),
)
LINENS = Choice(
    "Woven in {label}, and softer with every wash.",
    (
        Option("WHI", "white", 100, {"colour": "white"}),
        Option("CLY", "clay", 100, {"colour": "clay"}),
        Option("SAG", "sage", 100, {"colour": "sage"}),
        Option("IND", "indigo", 110, {"colour": "indigo"}),
    ),
)
GLAZES = Choice(
    "The glaze is {label}; it does not mind the dishwasher.",
    (
        Option("CRM", "cream", 100, {"colour": "cream", "dishwasher": "yes"}),
        Option("SEA", "sea blue", 100, {"colour": "sea blue", "dishwasher": "yes"}),
        Option("GRA", "granite", 100, {"colour": "granite", "dishwasher": "yes"}),
        Option("OCH", "ochre", 100, {"colour": "ochre", "dishwasher": "yes"}),
    ),
)
COATS = Choice(
    "Coated in {label}.",
    (
        Option("FOR", "forest green", 100, {"colour": "forest green"}),
        Option("BRI", "brick red", 100, {"colour": "brick red"}),
        Option("SLA", "slate", 100, {"colour": "slate"}),
    ),
)
METALS = Choice(
    "Made in {label}; the bulb is not included.",
    (
        Option("BRS", "brushed brass", 120, {"material": "brass"}),
        Option("STL", "satin steel", 100, {"material": "steel"}),
        Option("BLK", "matt black", 100, {"material": "steel", "colour": "black"}),
        Option("WHI", "matt white", 100, {"material": "steel", "colour": "white"}),
    ),
)
BEDS = Choice(
    "For a mattress of {label}.",
    (
        Option("090", "90 x 200 cm", 70, {"width_cm": 90, "length_cm": 200}),
        Option("140", "140 x 200 cm", 90, {"width_cm": 140, "length_cm": 200}),
        Option("160", "160 x 200 cm", 100, {"width_cm": 160, "length_cm": 200}),
        Option("180", "180 x 200 cm", 112, {"width_cm": 180, "length_cm": 200}),
    ),
)
TABLES = Choice(
    "The top measures {label}.",
    (
        Option("140", "140 x 80 cm", 85, {"width_cm": 140, "seats": 4}),
        Option("180", "180 x 90 cm", 100, {"width_cm": 180, "seats": 6}),
        Option("220", "220 x 95 cm", 125, {"width_cm": 220, "seats": 8}),
    ),
)
WIDTHS = Choice(
    "It is {label} wide.",
    (
        Option("060", "60 cm", 75, {"width_cm": 60}),
        Option("080", "80 cm", 90, {"width_cm": 80}),
        Option("120", "120 cm", 120, {"width_cm": 120}),
    ),
)
PANS = Choice(
    "The rim measures {label} across.",
    (
        Option("20", "20 cm", 80, {"diameter_cm": 20}),
        Option("24", "24 cm", 100, {"diameter_cm": 24}),
        Option("28", "28 cm", 120, {"diameter_cm": 28}),
    ),
)
BLADES = Choice(
    "The blade is {label} long, and arrives sharp.",
    (
        Option("12", "12 cm", 80, {"blade_cm": 12}),
        Option("16", "16 cm", 100, {"blade_cm": 16}),
        Option("20", "20 cm", 120, {"blade_cm": 20}),
    ),
)
RUGS = Choice(
    "Measures {label}.",
    (
        Option("S", "80 x 150 cm", 40, {"width_cm": 80, "length_cm": 150}),
        Option("M", "140 x 200 cm", 100, {"width_cm": 140, "length_cm": 200}),
        Option("L", "200 x 300 cm", 200, {"width_cm": 200, "length_cm": 300}),
    ),
)
PERSONS = Choice(
    "Sleeps {label}.",
    (
        Option("1P", "one", 70, {"persons": 1}),
        Option("2P", "two", 100, {"persons": 2}),
        Option("4P", "four", 160, {"persons": 4}),
    ),
)
SEASONS = Choice(
    "Comfortable down to {label}.",
    (
        Option("SUM", "8 °C", 70, {"comfort_celsius": 8, "weight_g": 780}),
        Option("3SN", "0 °C", 100, {"comfort_celsius": 0, "weight_g": 1150}),
        Option("WIN", "-12 °C", 160, {"comfort_celsius": -12, "weight_g": 1680}),
    ),
)
SETS = Choice(
    "Sold as {label}.",
    (
        Option("1", "a single piece", 30, {"pieces": 1}),
        Option("2", "a set of two", 55, {"pieces": 2}),
        Option("4", "a set of four", 100, {"pieces": 4}),
        Option("6", "a set of six", 140, {"pieces": 6}),
    ),
)
PAPERS = Choice(
    "The paper is {label}.",
    (
        Option("PLN", "plain", 100, {"ruling": "plain"}),
        Option("DOT", "dotted", 100, {"ruling": "dotted"}),
        Option("LIN", "lined", 100, {"ruling": "lined"}),
    ),
)

CHAIRS = Shelf(
    "CHR",
    ("furniture", "seating"),
    (
        Line("Alder dining chair", 129, "A light chair with a curved back and a seat woven from paper cord.", WOODS),
        Line("Brekke armchair", 249, "A low chair for long evenings, with arms wide enough for a cup.", WOODS),
        Line("Clover stacking chair", 79, "Moulded plywood on a slim frame; six of them stack.", WOODS),
        Line("Dune bar stool", 119, "A stool of bar height with a footrest that does not wobble.", WOODS),
        Line("Elm rocking chair", 289, "Steam-bent runners and a high back that holds the head.", WOODS),
    ),
)
DINING_TABLES = Shelf(
    "TAB",
    ("furniture", "dining"),
    (
        Line("Fjord dining table", 649, "A solid oak top with rounded edges on four tapered legs.", TABLES),
        Line("Garnet trestle table", 399, "A linoleum top on two trestles, taken apart in a minute.", TABLES),
        Line("Hazel farmhouse table", 549, "Thick planks of pine that take a scratch with grace.", TABLES),
        Line("Isle extending table", 729, "Two leaves sleep under the top until guests arrive.", TABLES),
    ),
    "dining_table",
)
SOFAS = Shelf(
    "SOF",
    ("furniture", "seating", "living room"),
    (
        Line("Juniper two-seat sofa", 899, "Pocket springs under feather, in a frame of solid beech.", FABRICS),
        Line("Kestrel three-seat sofa", 1199, "Deep enough to nap on, with cushions that keep their shape.", FABRICS),
        Line("Lark sofa bed", 999, "A real mattress that unfolds in one movement.", FABRICS),
        Line("Maple footstool", 189, "Room inside for blankets, and soft enough for feet.", FABRICS),
    ),
    "sofa",
)
STORAGE = Shelf(
    "STO",
    ("furniture", "storage"),
    (
        Line("Nordic bookcase", 299, "Five shelves that carry 30 kg each, fixed to the wall.", WIDTHS),
        Line("Otter sideboard", 449, "Sliding doors, soft-closing drawers and a way out for cables.", WIDTHS),
        Line("Pebble shoe cabinet", 159, "Tilting drawers for twelve pairs in a depth of 18 cm.", WIDTHS),
        Line("Quill wall shelf", 49, "A floating shelf with a hidden rail; screws included.", WIDTHS),
        Line("Rowan chest of drawers", 379, "Four drawers with dovetailed corners.", WIDTHS),
    ),
)
BED_FRAMES = Shelf(
    "BED",
    ("furniture", "bedroom"),
    (
        Line("Sorrel bed frame", 499, "Slats of layered birch, and enough height for boxes underneath.", BEDS),
        Line("Tansy upholstered bed", 799, "A padded headboard to lean a book against.", BEDS),
        Line("Umber platform bed", 599, "Low, plain and quiet: no metal touches metal.", BEDS),
    ),
)
COOKWARE = Shelf(
    "COK",
    ("kitchen", "cooking"),
    (
        Line("Vale cast-iron casserole", 139, "Enamelled inside and out, for stews that take all day.", PANS),
        Line("Willow frying pan", 69, "Carbon steel that grows its own non-stick coat.", PANS),
        Line("Yarrow saucepan", 59, "Three layers, a pouring rim and a lid that strains.", PANS),
        Line("Zinnia sauté pan", 79, "High sides keep the sauce in and the stove clean.", PANS),
        Line("Aspen wok", 64, "Hammered steel with a handle of beech.", PANS),
    ),
)
KNIVES = Shelf(
    "KNI",
    ("kitchen", "cooking"),
    (
        Line("Birch chef's knife", 89, "One knife for nearly everything, balanced at the bolster.", BLADES),
        Line("Cedar vegetable knife", 79, "A straight edge and a flat face that vegetables slide off.", BLADES),
        Line("Drift bread knife", 59, "Deep waves that cut the crust and leave the crumb.", BLADES),
        Line("Ember filleting knife", 69, "Bends along the bone and wastes nothing.", BLADES),
    ),
)
TABLEWARE = Shelf(
    "TBW",
    ("kitchen", "dining"),
    (
        Line("Fern dinner plate", 18, "Stoneware with a low rim, made to be stacked.", GLAZES),
        Line("Gale soup bowl", 14, "Deep and narrow: the last spoon is still hot.", GLAZES),
        Line("Heath mug", 12, "Holds 35 cl and has a handle for a whole hand.", GLAZES),
        Line("Iris serving dish", 39, "From the oven to the table without a change of plates.", GLAZES),
        Line("Jasper water glass", 24, "Pressed glass that feels heavier than it is.", SETS),
        Line("Kelp linen napkin", 28, "Stone-washed European flax with mitred corners.", SETS),
    ),
)
COFFEE = Shelf(
    "COF",
    ("kitchen", "coffee", "gift"),
    (
        Line("Linden pour-over", 34, "A dripper of stoneware; ordinary paper filters fit.", GLAZES),
        Line("Mica teapot", 49, "A strainer that reaches the bottom and a spout that does not drip.", GLAZES),
        Line("Nettle espresso cup", 9, "Thick walls around 7 cl.", GLAZES),
        Line("Onyx milk jug", 16, "A sharp spout for those who draw ferns.", GLAZES),
    ),
)
TABLE_LAMPS = Shelf(
    "TLA",
    ("lighting",),
    (
        Line("Plover desk lamp", 89, "Three joints, one hand, and it stays where it is put.", METALS),
        Line("Quartz table lamp", 69, "A shade of opal glass that glows without glare.", METALS),
        Line("Reed bedside lamp", 54, "Dims by touch, so that the other side can sleep.", METALS),
    ),
)
FLOOR_LAMPS = Shelf(
    "FLA",
    ("lighting", "living room"),
    (
        Line("Sable arc lamp", 229, "Reaches over the sofa from a foot of marble.", METALS),
        Line("Thistle reading lamp", 149, "A narrow beam for the page and none for the room.", METALS),
        Line("Upland tripod lamp", 179, "Three legs and a drum shade of linen.", METALS),
    ),
)
PENDANT_LAMPS = Shelf(
    "PLA",
    ("lighting", "dining"),
    (
        Line("Violet dome pendant", 119, "Throws a round pool of light on the table and none in the eyes.", METALS),
        Line("Wren cluster pendant", 259, "Five lights at five heights on one rose.", METALS),
        Line("Alpine globe pendant", 99, "A blown globe on three metres of textile cable.", METALS),
    ),
)
BEDDING = Shelf(
    "BDG",
    ("textiles", "bedroom"),
    (
        Line("Bracken duvet cover", 119, "Linen with coconut buttons, cool in summer and warm in winter.", LINENS),
        Line("Cinder pillowcase", 24, "An envelope closure and no seam where the cheek lies.", LINENS),
        Line("Delta fitted sheet", 59, "Elastic all around; stays on mattresses up to 30 cm.", LINENS),
        Line("Estuary bedspread", 139, "Quilted by hand in a pattern of waves.", LINENS),
    ),
)
RUGS_AND_CARPETS = Shelf(
    "RUG",
    ("textiles", "living room"),
    (
        Line("Flint wool rug", 349, "Hand-tufted wool that springs back.", RUGS),
        Line("Grove flat-weave rug", 189, "The same on both sides, for those who spill.", RUGS),
        Line("Harbour jute rug", 129, "Braided jute that smells of hay for a week.", RUGS),
        Line("Ivy shaggy rug", 229, "A pile of 4 cm, for bare feet.", RUGS),
    ),
    "rug",
)
CUSHIONS = Shelf(
    "CUS",
    ("textiles", "living room", "gift"),
    (
        Line("Jay cushion", 34, "Filled with feathers, corners that stay corners.", FABRICS),
        Line("Knoll throw", 69, "Lambswool with a short fringe.", LINENS),
        Line("Loch floor cushion", 79, "Firm enough to sit on, flat enough to store.", FABRICS),
    ),
)
BATH = Shelf(
    "BTH",
    ("textiles", "bathroom"),
    (
        Line("Oriole bath towel", 29, "Long-staple cotton of 550 grams that dries in an afternoon.", LINENS),
        Line("Puffin hand towel", 14, "A loop at each end, so that none is missing.", LINENS),
        Line("Rill bath mat", 34, "Thick terry with a back that does not slide.", LINENS),
        Line("Siskin bathrobe", 89, "A waffle weave with deep pockets.", LINENS),
        Line("Teal shower curtain", 49, "Weighted at the hem, without plastic.", LINENS),
    ),
)
GARDEN_FURNITURE = Shelf(
    "GFU",
    ("outdoor", "garden", "seating"),
    (
        Line("Meadow garden chair", 139, "Folds flat and winters in the shed.", WOODS),
        Line("Newt garden bench", 259, "Seats three, and bears rain without a cover.", WOODS),
        Line("Orchard deck chair", 99, "Three positions, the last of them for sleeping.", WOODS),
        Line("Prairie garden table", 429, "A slatted top that water runs through.", TABLES),
    ),
)
GARDEN_TOOLS = Shelf(
    "GTO",
    ("outdoor", "garden", "tools"),
    (
        Line("Quarry spade", 49, "A forged blade with a tread for boots.", WOODS),
        Line("Raven secateurs", 39, "Cuts green wood to 22 mm and comes apart for sharpening.", COATS),
        Line("Stork watering can", 44, "Ten litres, and a rose that rains instead of pouring.", COATS),
        Line("Tern hand trowel", 19, "One piece of carbon steel, and a handle with a thong.", COATS),
    ),
)
TENTS = Shelf(
    "TEN",
    ("outdoor", "camping"),
    (
        Line("Ursa trekking tent", 389, "Inner and outer go up together, in wind, in five minutes.", PERSONS),
        Line("Vega dome tent", 199, "Two doors, two porches, no arguments.", PERSONS),
        Line("Warbler tarp shelter", 119, "A roof of 600 grams for those who sleep under stars.", PERSONS),
    ),
)
SLEEPING_BAGS = Shelf(
    "SLP",
    ("outdoor", "camping"),
    (
        Line("Aurora down sleeping bag", 299, "Responsibly sourced down in a shell that breathes.", SEASONS),
        Line("Boreal synthetic sleeping bag", 149, "Warm even when wet, and dry by noon.", SEASONS),
        Line("Comet sleeping mat", 89, "Inflates with twenty breaths, packs to the size of a bottle.", SEASONS),
    ),
)
CAMP_KITCHEN = Shelf(
    "CMP",
    ("outdoor", "camping", "cooking"),
    (
        Line("Dipper camping pot", 39, "Hard-anodised, with a lid that is also a plate.", PANS),
        Line("Ether gas stove", 59, "Boils a litre in three minutes and fits in the pot.", COATS),
        Line("Falcon enamel mug", 11, "Chips with dignity.", COATS),
    ),
)
DESKS = Shelf(
    "DSK",
    ("office", "furniture"),
    (
        Line("Gull standing desk", 549, "Rises in silence, and remembers two heights.", TABLES),
        Line("Heron writing desk", 289, "A drawer for pens and a tray for what distracts.", WIDTHS),
        Line("Ibis monitor stand", 69, "Lifts the screen to the eyes and hides the keyboard.", WOODS),
        Line("Jackdaw drawer unit", 169, "Three drawers on castors; the lowest takes folders.", WIDTHS),
    ),
)
STATIONERY = Shelf(
    "STA",
    ("office", "paper", "gift"),
    (
        Line("Kite notebook", 16, "Opens flat: 192 numbered pages, thread-bound.", PAPERS),
        Line("Linnet desk pad", 22, "A week at a glance on tear-off sheets.", PAPERS),
        Line("Magpie letter set", 19, "Twelve sheets and envelopes of cotton paper.", PAPERS),
        Line("Nuthatch brass pen", 120, "Grows darker where it is held; takes common refills.", SETS),
    ),
)

#: The brands; each has a few ranges of products.
BRANDS = (
    *("Ambleside Works", "Tolliver & Bell", "Caldbeck", "Dovecote", "Ellerby", "Fairholme"),
    *("Greyfield", "Hollowell", "Inglenook", "Jessamine Lane", "Kilnhouse", "Lathom"),
    *("Millrace", "Norwick", "Oatfield", "Penhallow", "Quarrington", "Rushmere"),
    *("Saltmarsh", "Thornbury", "Ullswater", "Vinehurst", "Westerby", "Yewbarrow"),
    *("Askham & Daughters", "Braithwaite", "Coldharbour", "Dunmore", "Eastlight", "Foxglove Mill"),
)

#: What can be said of the products; the choices are what the options of the lines have.
ATTRIBUTES: tuple[Mapping[str, Any], ...] = (
    {"code": "range", "label": "Range", "type": "text", "searchable": True},
    {"code": "material", "label": "Material", "type": "choice", "searchable": True, "filterable": True},
    {"code": "colour", "label": "Colour", "type": "choice", "searchable": True, "filterable": True},
    {"code": "width_cm", "label": "Width", "type": "integer", "unit": "cm", "filterable": True},
    {"code": "length_cm", "label": "Length", "type": "integer", "unit": "cm", "filterable": True},
    {"code": "seats", "label": "Seats", "type": "integer", "filterable": True},
)
#: The pieces that a generated variant comes in.
PIECES = ("single", "pair")
#: Kinds of products: for each a label, the attribute by which its variants differ, and the others.
TYPES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "dining_table": ("Dining table", "width_cm", ("seats", "range")),
    "rug": ("Rug", "width_cm", ("length_cm", "range")),
    "sofa": ("Sofa", "colour", ("range",)),
}

#: The categories by name: roots, their children, and one more level.
TREE: Mapping[str, Mapping[str, Shelf | Mapping[str, Shelf]]] = {
    "Furniture": {
        "Chairs and stools": CHAIRS,
        "Dining tables": DINING_TABLES,
        "Sofas": SOFAS,
        "Storage": STORAGE,
        "Beds": BED_FRAMES,
    },
    "Kitchen": {"Cookware": COOKWARE, "Knives": KNIVES, "Tableware": TABLEWARE, "Coffee and tea": COFFEE},
    "Lighting": {"Table lamps": TABLE_LAMPS, "Floor lamps": FLOOR_LAMPS, "Pendant lamps": PENDANT_LAMPS},
    "Textiles": {"Bedding": BEDDING, "Rugs": RUGS_AND_CARPETS, "Cushions and throws": CUSHIONS, "Bathroom": BATH},
    "Outdoor": {
        "Garden furniture": GARDEN_FURNITURE,
        "Garden tools": GARDEN_TOOLS,
        "Camping": {"Tents": TENTS, "Sleeping bags": SLEEPING_BAGS, "Camp kitchen": CAMP_KITCHEN},
    },
    "Workspace": {"Desks": DESKS, "Stationery": STATIONERY},
}
