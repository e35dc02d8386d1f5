"""Words that stand in the places of names in control rows: such as anybody might be called, and nobody known is."""


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


GIVEN = _listed("""
    Marta Tobias Ilse Kerem Yuna Oskar Lidia Piotr Amara Joren Selma Davor Noemi Ruben Talia Anton Freya Milos Hanna
    Idris Clara Benno Zofia Emil Rania Lukas Petra Jonas Vera Malik Sonia Hugo Irena Felix Dalia Bruno Edda Kamil Nadia
    Oleg Rosa Samir Tilda Viktor Wanda Yusuf Agnes Boris Carla Denis Elena Farid Greta Henrik Iris Jamal Karin Leon
""")
"""Given names."""
FAMILY = _listed("""
    Lindholm Varga Osei Tanaka Brandt Kowal Marino Halvorsen Petrov Castell Dorn Nakamura Weller Santos Ferrer Novak
    Albrecht Moreau Iversen Kaya Rossi Draper Hollis Sandoval Becker Thorne Mensah Larsen Duarte Farrell Zeman Quiroga
    Amsel Baptiste Corbin Demir Ekholm Fontana Grau Hadley Ivanov Jansen Keller Lomax Mercer Nyberg Ortega Palmer Ritter
    Soler Tamm Ulrich Vidal Warner Yilmaz Zapata Barlow Cervantes
""")
"""Family names, and whatever else stands alone."""
TITLE = _listed("""
    Northern Garden Silent River National Journal Modern Letters Golden Bridge Annual Institute Winter Harbor Central
    Library Ancient Valley Royal Academy Hidden Forest Public Theater Broken Mirror Western Council Distant Mountain
    General Society Crimson Lantern Regional Museum Early Morning Global Forum Paper Kingdom Applied Research Lost
    Island Classical Studies Summer Festival Advanced Methods Blue Station Open Theory Grand Collection
""")
"""Words of titles and offices."""
MONTHS = _listed("January February March April May June July August September October November December")
WEEKDAYS = _listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
SMALL = _listed("I A An The Of In On And For To With At By As Is De Von Van Al La Le Del Da Di")
"""Words with a capital letter that name nothing."""
