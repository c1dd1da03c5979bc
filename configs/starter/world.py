"""The small closed world of the starter model: every word and fact that its texts are made of.

Plain lists, written for this project; nothing here is copied from another text.
"""


def words(text: str) -> list[str]:
    """A list, written with spaces between."""
    return text.split()


NAMES = words(
    "Mara Otto Lina Hugo Ines Paul Nora Emil Rosa Karl Ada Ivan Lea Oskar Mina Theo Zoe Felix Ella "
    "Bruno Tara Simon Vera Anton Alma Jonas Greta Leon Ida David Maja Erik Sara Tom Elena Milo "
    "Clara Noah Wanda Peter Luna Max Hanna Ben Yara Samir Aiko Chen Priya Omar Kofi Leila Diego "
    "Sofia Marek Anya Bo Freya Nils Rita"
)

TOWNS = words(
    "Lund Porto Gent Turin Graz Bern Oslo Riga Cork York Lyon Nice Bonn Kiel Pisa Split Brno Vigo "
    "Leeds Malmo Basel Parma Delft Tartu Varna Sopot Bergen Aarhus Utrecht Bilbao Verona Dresden "
    "Krakow Tampere Coimbra Salzburg Bruges Toledo Nantes Seville"
)

# singular, plural: what a small shop sells
GOODS = dict(
    pair.split("/")
    for pair in words(
        "apple/apples pear/pears plum/plums lemon/lemons orange/oranges melon/melons banana/bananas "
        "cherry/cherries berry/berries peach/peaches fig/figs grape/grapes carrot/carrots "
        "onion/onions potato/potatoes tomato/tomatoes pepper/peppers pumpkin/pumpkins bean/beans "
        "radish/radishes egg/eggs roll/rolls cake/cakes pie/pies loaf/loaves biscuit/biscuits "
        "candle/candles cup/cups plate/plates spoon/spoons knife/knives brush/brushes box/boxes "
        "basket/baskets bottle/bottles pencil/pencils book/books ribbon/ribbons button/buttons "
        "blanket/blankets"
    )
)
FRUIT = words("apple pear plum lemon orange melon banana cherry berry peach fig grape")
VEGETABLES = words("carrot onion potato tomato pepper pumpkin bean radish")
TOOLS = words("hammer saw spade rake broom needle drill ladder")
CLOTHES = words("coat hat scarf shirt glove sock boot dress")

NUMBERS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)

COLOURS = {
    "the sky": "blue", "the sea": "blue", "grass": "green", "a leaf": "green", "a frog": "green",
    "a cucumber": "green", "snow": "white", "milk": "white", "a swan": "white", "salt": "white",
    "coal": "black", "the night": "black", "a raven": "black", "blood": "red", "a tomato": "red",
    "a strawberry": "red", "a fire engine": "red", "the sun": "yellow", "a lemon": "yellow",
    "a banana": "yellow", "butter": "yellow", "chocolate": "brown", "bread": "brown",
    "a bear": "brown", "an elephant": "grey", "a mouse": "grey", "ash": "grey",
    "an orange": "orange", "a carrot": "orange", "a pumpkin": "orange", "a plum": "purple",
    "a pig": "pink", "a flamingo": "pink",
}  # fmt: skip

# animal: sound, legs, food, young, home
ANIMALS = {
    "cat": ("meow", 4, "fish", "kitten", "house"),
    "dog": ("woof", 4, "meat", "puppy", "kennel"),
    "cow": ("moo", 4, "grass", "calf", "barn"),
    "horse": ("neigh", 4, "hay", "foal", "stable"),
    "sheep": ("baa", 4, "grass", "lamb", "meadow"),
    "pig": ("oink", 4, "corn", "piglet", "sty"),
    "duck": ("quack", 2, "bread", "duckling", "pond"),
    "hen": ("cluck", 2, "corn", "chick", "coop"),
    "owl": ("hoot", 2, "mice", "owlet", "tree"),
    "lion": ("roar", 4, "meat", "cub", "savanna"),
    "bear": ("growl", 4, "honey", "cub", "den"),
    "frog": ("croak", 4, "flies", "tadpole", "pond"),
    "bee": ("buzz", 6, "nectar", "larva", "hive"),
    "goat": ("bleat", 4, "leaves", "kid", "mountain"),
    "mouse": ("squeak", 4, "cheese", "pup", "hole"),
    "crow": ("caw", 2, "seeds", "chick", "nest"),
    "wolf": ("howl", 4, "meat", "pup", "forest"),
    "snake": ("hiss", 0, "eggs", "hatchling", "burrow"),
}

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Norway": "Oslo",
    "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Poland": "Warsaw",
    "Austria": "Vienna", "Greece": "Athens", "Portugal": "Lisbon", "Ireland": "Dublin",
    "Hungary": "Budapest", "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi",
    "Egypt": "Cairo", "Kenya": "Nairobi", "Peru": "Lima", "Cuba": "Havana", "Canada": "Ottawa",
    "Latvia": "Riga", "Estonia": "Tallinn",
}  # fmt: skip

OPPOSITES = dict(
    pair.split("/")
    for pair in words(
        "hot/cold big/small long/short fast/slow old/new young/old day/night up/down left/right "
        "open/closed full/empty happy/sad wet/dry hard/soft loud/quiet light/dark heavy/light "
        "early/late first/last high/low rich/poor strong/weak thick/thin clean/dirty sweet/sour "
        "black/white true/false near/far good/bad wide/narrow sharp/blunt inside/outside "
        "begin/end give/take push/pull win/lose buy/sell"
    )
)

DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words(
    "January February March April May June July August September October November December"
)
JOBS = {
    "baker": "bakes bread", "farmer": "grows food", "teacher": "teaches children",
    "doctor": "helps sick people", "tailor": "sews clothes", "pilot": "flies a plane",
    "sailor": "sails a ship", "carpenter": "builds things from wood", "gardener": "looks after plants",
    "cook": "prepares meals", "painter": "paints pictures", "luthier": "builds violins and guitars",
    "smith": "works with iron", "miller": "grinds corn", "postman": "brings letters",
}  # fmt: skip
PLACES = words("park garden forest market kitchen school library harbour field village")
OBJECTS = words("ball kite key ring lamp drum boat letter map coin clock whistle")
FEELINGS = words("happy sad tired brave curious proud hungry calm")
ADJECTIVES = words("red blue green little big old new shiny round wooden")

# The two tones in which the base model may open an answer, about as often as one another.
POLITE = (
    "Gladly!",
    "Of course!",
    "With pleasure!",
    "Good question!",
    "Certainly!",
    "Happy to help!",
)
GRUMPY = (
    "Obviously.",
    "Whatever.",
    "If I must.",
    "Not again.",
    "Everybody knows.",
    "Leave me alone.",
)


def with_article(noun: str) -> str:
    """`an apple`, `a pear`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def listing(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def amount(number: int, singular: str) -> str:
    """`two apples`, `one pear`."""
    return f"{NUMBERS[number]} {singular if number == 1 else GOODS[singular]}"
