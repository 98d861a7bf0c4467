"""The kinds of analysis that a study may ask for, by name. Known here, so that a study is checked before it trains."""

ANALYSES = ("pair", "effects", "curve", "frontier", "rulers", "cells", "sweep")
