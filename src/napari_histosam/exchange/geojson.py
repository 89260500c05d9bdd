"""GeoJSON in QuPath's flavour: read and write."""

from napari_histosam.exchange.geojson_read import read_geojson
from napari_histosam.exchange.geojson_write import write_geojson

__all__ = ["read_geojson", "write_geojson"]
