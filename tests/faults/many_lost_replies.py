"""A plugin for pytest: the kit's promise about a lost reply is put to the test LOST_REPLIES times in a row."""

import os

from eventferry.sink.kit.places import Places

Places.lost_replies = int(os.environ["LOST_REPLIES"])
