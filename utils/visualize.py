"""Visualisation: indexed masks with the DAVIS palette, and overlays."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from utils.palette import davis_palette
from utils.savepath import writing

DISTINCT = 96  # levels in one channel, by which an outline differs from what is under it
USUAL_SIDE = 480  # rows of a frame for which lines are one pixel thick
FONT, USUAL_TEXT, SMALLEST_TEXT = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0.3  # sizes as OpenCV's fontScale


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write object ids, uint8 [H, W], as an indexed PNG with the DAVIS palette."""
    image = Image.fromarray(mask)
    image.putpalette(davis_palette().tobytes())  # turns the grey image into an indexed one, same values
    with writing(path):
        image.save(path)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture, RGB uint8 [H, W, 3], to a file."""
    with writing(path):
        Image.fromarray(picture).save(path)


def overlay(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw a mask uint8 [H, W] over a BGR frame uint8 [H, W, 3] -> RGB uint8 [H, W, 3].

    Each object is half its colour, outlined in it, and bears its id. Where the frame has nearly the object's colour,
    the outline is black or white. The pixels away from objects and ids are the frame's.
    """
    rgb, colours, inside = np.ascontiguousarray(frame[..., ::-1]), davis_palette()[mask], mask > 0
    halfway = (rgb.astype(np.uint16) + colours) >> 1
    picture = np.where(inside[..., None], halfway, rgb).astype(np.uint8)
    _write_ids(picture, mask)
    outline = _border(mask) & inside  # drawn last: no id hides a small object
    under, colour = rgb[outline], colours[outline]
    similar = np.abs(under.astype(np.int16) - colour).max(1) < DISTINCT
    colour[similar] = np.where(under[similar].mean(1, keepdims=True) < 128, 255, 0)
    picture[outline] = colour
    return picture


def _border(mask: np.ndarray) -> np.ndarray:
    """The pixels with another id beside, above or below them, thicker in large frames: bool [H, W]."""
    thickness = max(1, round(min(mask.shape) / USUAL_SIDE))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (2 * thickness + 1, 2 * thickness + 1))
    mask = np.ascontiguousarray(mask)
    return cv2.dilate(mask, cross) != cv2.erode(mask, cross)


def _write_ids(picture: np.ndarray, mask: np.ndarray) -> None:
    """Write each object's id where the object is widest, or beside one that is too small for it."""
    scale = max(SMALLEST_TEXT, min(mask.shape) / USUAL_SIDE * USUAL_TEXT)
    line = max(1, round(scale))
    for number in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[1:]) + 1:
        text = str(number)
        (width, height), _ = cv2.getTextSize(text, FONT, scale, line)
        place = _place_of_text((mask == number).astype(np.uint8), width + 4 * line, height + 4 * line)
        if place is None:
            continue
        origin = place[0] + 2 * line, place[1] + 2 * line + height
        cv2.putText(picture, text, origin, FONT, scale, (0, 0, 0), 3 * line, cv2.LINE_AA)
        cv2.putText(picture, text, origin, FONT, scale, (255, 255, 255), line, cv2.LINE_AA)


def _place_of_text(shape: np.ndarray, width: int, height: int) -> tuple[int, int] | None:
    """The left and upper border of a text on a shape, uint8 [H, W] of 0 and 1, or beside it; None: there is no room."""
    x, y, w, h = cv2.boundingRect(shape)
    part = np.pad(shape[y : y + h, x : x + w], 1)  # beyond the frame there is no object
    _, radius, _, (column, row) = cv2.minMaxLoc(cv2.distanceTransform(part, cv2.DIST_L2, 3))
    if radius > np.hypot(width, height) / 2:
        return x + column - 1 - width // 2, y + row - 1 - height // 2
    rows, columns = shape.shape
    left, top = min(max(0, x), columns - width), min(max(0, y), rows - height)
    places = (x + w, top), (x - width, top), (left, y - height), (left, y + h)
    return next((p for p in places if 0 <= p[0] <= columns - width and 0 <= p[1] <= rows - height), None)
