"""The kinds of analysis that a study may ask for, by name: a study is refused before it trains, the analysis defines them."""

ANALYSES = ("pair", "effects", "curve", "frontier", "rulers", "cells", "sweep")
