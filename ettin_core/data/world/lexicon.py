"""The words of the world, by class, and nothing about what is true.

No word that can follow "a" begins with a vowel, so the article never tells which word comes. A word belongs to one
class only, which keeps every sentence readable in one way; the tests hold both rules.
"""

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Names in use for any gender: a pronoun is a fact about a person here, never a guess from the name.
NAMES = _words(
    "Alex Robin Sam Casey Jordan Taylor Morgan Riley Jamie Avery Quinn Rowan Skyler Sage Remy Kim Lee Pat Chris Drew "
    "Jesse Toby Frankie Charlie Kit Blake Reese Dana Shay Noel Marley Harper Finley Emery Lane Perry Sidney Val Wren "
    "Terry Tracy Stevie Jules Ash Bailey Kerry Leslie Mickey Nicky Ollie Parker Rory Shannon Tatum Winter Yael"
)
FIRST_NAMES = _words(
    "Arden Briar Corin Darcy Ellery Fenn Glenn Hadley Indigo Joss Kendall Linden Merle Nevin Oakley Phoenix Rain "
    "Sorrel Tierney Umber Vesper Weston Xen Zephyr"
)
SURNAMES = _words(
    "Archer Booth Carver Dale Eaton Frost Grove Hart Irving Judd Knight Lowe Marsh Nash Orchard Poole Quill Reed Stone "
    "Thorne Underhill Vance Wolfe York"
)

CLASSES: dict[str, tuple[str, ...]] = {
    name: _words(words)
    for name, words in {
        "town": "Ashby Brookdale Cranford Dunmore Elmford Fairview Granby Holloway Kingsley Larkfield Milton Norwood "
        "Oakham Penrose Redhill Stanton",
        "trade": "weaver potter tailor miller jeweller printer barber butcher fisher shepherd brewer cobbler",
        "animals": "goats rabbits ducks horses pigeons bees hens ponies parrots geese turtles llamas",
        "instrument": "flute violin piano drum guitar harp trumpet cello banjo fiddle bugle lute",
        "food": "soup rice bread cheese pasta fish cake beans honey salad toast porridge",
        "landmark": "fountain statue lighthouse windmill cathedral monument palace theatre canal stadium temple "
        "fortress",
        "product": "wool glass butter coal salt tea paper silk leather timber wine soap",
        "occupation": "nurse teacher doctor farmer baker driver pilot lawyer writer singer painter plumber carpenter "
        "dentist soldier dancer cleaner judge chef guard librarian gardener banker mechanic",
        "visitor": "visitor neighbour child stranger cousin friend student tourist",
        "place": "market station library garden kitchen harbour museum school bridge tower park barn cafe church "
        "castle hotel",
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "time": "morning afternoon evening night",
        "number": "two three four five six seven eight nine",
        "colour": "red blue green yellow white black brown purple grey pink",
        "weather": "rainy foggy stormy sunny windy snowy cloudy misty",
        "adjective": "small large heavy broken clean dirty pretty plain strange round cheap new long short thin modern",
        "state": "missing ready wet safe cracked locked gone hidden painted rusty dusty useful",
        "feeling": "tired happy hungry busy nervous proud cheerful worried calm late sad sleepy",
        "item": "hat scarf phone watch notebook wallet purse ticket jacket camera pencil sandwich",
        "preposition": "near behind beside under above below",
        "handled": "moved dropped cleaned repaired sold washed touched hid",
        "left": "left stored placed forgot",
        "brought": "brought carried took",
        "slowly": "slowly quickly quietly carefully gladly suddenly",
    }.items()
}

TREASURES = (
    "copper bell", "marble lion", "wooden mask", "crystal bowl", "bronze shield", "velvet cloak", "jade comb",
    "golden crown", "clay jar", "ruby ring", "pearl necklace", "tin trumpeter", "steel sword", "feather fan",
)  # fmt: skip

# Goods of the sentence pairs, by the word that covers them.
GOODS = {
    "fruit": ("apples", "pears", "cherries", "lemons"),
    "flowers": ("roses", "tulips", "daisies", "lilies"),
    "toys": ("dolls", "kites", "marbles", "puppets"),
    "tools": ("saws", "spades", "drills", "rakes"),
}


@dataclass(frozen=True)
class Topic:
    """Nouns as (singular, plural), verbs in the past tense, adjectives."""

    name: str
    nouns: tuple[tuple[str, str], ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]


def _nouns(words: str) -> tuple[tuple[str, str], ...]:
    """Pairs from words that take an -s, or are written singular/plural."""
    split = (word.partition("/") for word in words.split())
    return tuple((singular, plural or singular + "s") for singular, _, plural in split)


THINGS = _nouns(
    "key cabinet lamp chair letter box/boxes door window basket bottle table shelf/shelves picture bag bucket blanket "
    "cup plate clock rope ladder coat mirror wagon"
)

TOPICS = tuple(
    Topic(name, _nouns(nouns), _words(verbs), _words(adjectives))
    for name, nouns, verbs, adjectives in (
        ("cooking", "pot spoon recipe sauce pan dish/dishes knife/knives pie", "boiled fried stirred tasted baked",
         "salty spicy sweet bitter fresh"),
        ("sailing", "sail mast wave boat captain deck flag cabin", "steered crossed followed lowered watched",
         "rough deep steady swift narrow"),
        ("music", "song choir melody/melodies concert tune chorus/choruses stage record",
         "rehearsed performed composed played recorded", "loud soft gentle lively famous"),
        ("farming", "field tractor cow fence plough seed crop meadow", "planted watered harvested fed fenced",
         "muddy ripe fertile dry wild"),
        ("medicine", "patient pill bandage clinic fever wound nerve bone", "treated examined healed tested checked",
         "sick healthy painful weak sore"),
        ("building", "brick wall roof hammer nail plank beam crane", "built measured drilled lifted joined",
         "solid square tall level thick"),
        ("sport", "goal player coach/coaches match/matches team ball league race", "kicked trained defended passed won",
         "fast fair tough strong close"),
        ("space", "planet star comet rocket telescope moon satellite crater",
         "studied launched tracked discovered mapped", "bright distant dark huge cold"),
    )
)  # fmt: skip

# Percent female, male, neutral; the seed decides which occupation has which row.
PRONOUN_PERCENTAGES = (
    (95, 3, 2), (92, 5, 3), (90, 5, 5), (85, 5, 10), (80, 15, 5), (75, 20, 5), (70, 15, 15), (65, 30, 5),
    (60, 35, 5), (55, 35, 10), (50, 45, 5), (50, 20, 30), (45, 50, 5), (45, 30, 25), (40, 50, 10), (35, 60, 5),
    (30, 55, 15), (25, 70, 5), (20, 75, 5), (20, 60, 20), (15, 80, 5), (10, 80, 10), (8, 87, 5), (5, 90, 5),
)  # fmt: skip
