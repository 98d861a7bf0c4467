"""The sentences of the world, as data. ``grammar`` explains the slots.

No two templates that can occur in the same position give the same sentence, and a template shows every choice made
for it, so a text can be derived in one way only. The tests enumerate small worlds to hold this.
"""

# A fact about a person. {subject} is the name or the pronoun and verbs agree with it.
PERSON = {
    "town": (
        "{subject} {live} in {town}.",
        "{subject} {have} a house in {town}.",
        "{subject} {are} at home in {town}.",
    ),
    "trade": ("{subject} {work} as a {trade}.", "{subject} {are} a {trade}.", "by trade, {subject} {are} a {trade}."),
    "animals": (
        "{subject} {keep} {animals}.",
        "{subject} {have} many {animals}.",
        "of all animals, {subject} {love} {animals}.",
    ),
    "instrument": (
        "{subject} {play} the {instrument}.",
        "{subject} {own} a {+adjective} {instrument}.",
        "every {+day} {subject} {play} the {instrument}.",
    ),
    "food": (
        "{subject} {like} to eat {food}.",
        "for dinner {subject} {cook} {food}.",
        "nothing is better, {subject} often said, than {food}.",
    ),
}
PERSON_MET = (
    "on {+day}, {they} went to the {+place} with a {+adjective} {+thing}.",
    "a {+visitor} met {them} one {+time} and liked {their} {+adjective} {+item}.",
    "the {+visitor} {+slowly} {+handled} a {+thing} for {them}.",
)
PERSON_FREE = (*PERSON_MET, "at home, {present}.", "{they} {were} {+feeling} because {past}.")
# The same fact in a few words, after a name.
PERSON_SHORT = {
    "town": "lives in {town}",
    "trade": "works as a {trade}",
    "animals": "keeps {animals}",
    "instrument": "plays the {instrument}",
    "food": "likes to eat {food}",
}
PERSON_AGAIN = ("remember that {name} %s.", "so it is {name} who %s.")

# {where} is the name of the town or "the town".
TOWN = {
    "landmark": (
        "there is a {landmark} in the middle of {where}.",
        "{where} has a beautiful {landmark}.",
        "people come to {where} to see the {landmark}.",
    ),
    "product": (
        "{where} is known for its {product}.",
        "the people of {where} make {product}.",
        "most shops in {where} sell {product}.",
    ),
}
TOWN_FREE = (
    "on {+day} it was {+weather}, and {past}.",
    "near the {landmark}, {present}.",
    "one {+time}, a {+visitor} sold a {+colour} {+item} there.",
    "the {+adjective} {+place} is next to the {landmark}.",
)
TOWN_RESIDENT = ("{name}, who %s, lives there.", "one of its people is {name}, who %s.")
TOWN_AGAIN = "so the {landmark} and the {product} both belong to {town}."

# {what} is the name of the treasure or "it".
TREASURE = {
    "town": (
        "{what} is kept in {town}.",
        "people can see {what} in {town}.",
        "{what} belongs to the people of {town}.",
    ),
    "trade": (
        "{what} was made by a {trade}.",
        "a {trade} made {what} many years ago.",
        "{what} is the work of a {trade}.",
    ),
}
TREASURE_FREE = (
    "it looks {+adjective} and {+colour}.",
    "on {+day} a {+visitor} came to see it in the {+time}.",
    "in the same room, {present}.",
    "it stands near a {+colour} {+thing}.",
    "{town} is also known for its {product}.",
    "the {landmark} of {town} is not far away.",
)
TREASURE_AGAIN = "to see the {treasure}, go to {town}."

# A story brings its protagonist in by occupation; the first pronoun comes with STORY_MENTION.
STORY_OPENING = (
    "one {+time}, the {occupation} came to the {place} with a {+adjective} {thing}.",
    "in the {+time}, the {occupation} found a {+adjective} {thing} at the {place}.",
    "a {+adjective} {thing} stood near the {place} when the {occupation} arrived.",
)
STORY_MENTION = (
    "the {occupation} said that {they} had lost {their} {+item}.",
    "the {occupation} said that {they} had seen the {thing} before.",
    "the {occupation} thought that {they} {were} {+feeling}.",
    "the {occupation} hoped that a {+visitor} would help {them}.",
    "the {occupation} put the {thing} next to {their} {+item}.",
    "everyone knew that the {thing} was for the {occupation}, and {they} {+slowly} took it.",
)
STORY_MIDDLE = (
    "{past}.",
    "{they} saw that {past}.",
    "{they} {+slowly} {+handled} the {thing}.",
    "then {they} {were} {+feeling} because it was {+weather}.",
    "a {+visitor} gave {them} a {+colour} {+item}.",
    "{they} went to the {+place} and {+handled} {their} {+item}.",
    "the {+visitor} asked {them} about the {thing}.",
    "the {occupation} {+handled} a {+adjective} {+thing} near the {place}.",
)
STORY_ENDING = (
    "at last {they} took the {thing} back to the {place}.",
    "in the end, {they} left the {thing} at the {place} and went home.",
    "{they} {were} {+feeling} when {they} left the {place} with the {thing}.",
    "now the {thing} is safe, and {they} {have} {their} {+item} again.",
)

# Question and answer sentence by relation; the answer ends with the value.
QUESTIONS = {
    "person": {
        "town": (("where does {name} live?", "in which town is the home of {name}?"), "{name} lives in {town}."),
        "trade": (("what is the work of {name}?", "what does {name} work as?"), "{name} works as a {trade}."),
        "animals": (("which animals does {name} keep?", "what does {name} keep?"), "{name} keeps {animals}."),
        "instrument": (
            ("what does {name} play?", "which instrument does {name} play?"),
            "{name} plays the {instrument}.",
        ),
        "food": (("what does {name} like to eat?", "which food does {name} like?"), "{name} likes to eat {food}."),
    },
    "town": {
        "landmark": (
            ("what stands in the middle of {name}?", "what do people come to see in {name}?"),
            "{name} has a beautiful {landmark}.",
        ),
        "product": (
            ("what is {name} known for?", "what do people make in {name}?"),
            "{name} is known for its {product}.",
        ),
    },
    "treasure": {
        "town": (("where is the {name} kept?", "in which town is the {name}?"), "the {name} is kept in {town}."),
        "trade": (("who made the {name}?", "the {name} is the work of whom?"), "the {name} was made by a {trade}."),
    },
}

SCENE = (
    "on {day}, the {occupation} left a {colour} {item} at the {place}.",
    "the {occupation2} left a {colour2} {item2} at the {place2}.",
)
SCENE_FREE = (
    "it was a {+weather} {+time}.",
    "a {+visitor} {+slowly} {+handled} the {+thing}.",
    "nobody knew who the {+visitor} was.",
)
# Question, answer sentence and answer, for the first and the second half of the scene.
SCENE_QUESTIONS = tuple(
    tuple(part.replace("#", number) for part in question)
    for number in ("", "2")
    for question in (
        ("who left the {item#}?", "the {occupation#} left the {item#}.", "{occupation#}"),
        ("where is the {item#}?", "the {item#} is at the {place#}.", "{place#}"),
        ("which colour is the {item#}?", "the {item#} is {colour#}.", "{colour#}"),
    )
)

# A premise leaves out one of four parts; a claim is about one of them.
PREMISE_FREE = (
    "it was a {+weather} {+time}.",
    "the {+visitor} was {+feeling}.",
    "a {+visitor} {+slowly} {+handled} the {+adjective} {+thing}.",
    "nobody knew about the {+thing} and the {+item}.",
)
PREMISE_PARTS = {"colour": " ", "goods": " ", "place": " to the ", "day": " on "}
CLAIM = {
    "goods": ("the things were {goods}.", "these were {goods}."),
    "colour": ("the things were {colour}.", "everything was {colour}."),
    "place": ("{name} went to the {place}.", "this happened at the {place}."),
    "day": ("it was a {day}.", "this happened on a {day}."),
}

TOPIC_BODY = (
    "{past}.",
    "the {+occupation} {+verb} the {+quality} {+noun}.",
    "on {+day} the {+nouns} were {+quality}, but the {+noun} was {+quality}.",
    "a {+visitor} asked about the {+noun} and the {+nouns}.",
    "we {+slowly} {+verb} the {+nouns} near the {+noun}.",
    "the {+visitor} said that {past}.",
)
TOPIC_ENDING = "all of this was about {topic}."
