"""The composition of the pull side, beside app.py: the same desk for the daemon and the server."""

from eventferry.access.keyring import Keyring
from eventferry.config import Config
from eventferry.exports.desk import Desk
from eventferry.ledger import Ledger


def build_desk(ledger: Ledger, config: Config) -> Desk:
    """Where exports are asked for."""
    from eventferry.alerts.channels import make_channel

    mail = None
    for channel in config.alerts.channels:
        if channel.type == "email" and config.exports.mail_through in (None, channel.name):
            mail = make_channel(channel.type, channel.name, channel.options).options
            break
    return Desk(
        ledger=ledger,
        settings=config.exports,
        state_dir=config.state_dir,
        base_url=config.api.base_url,
        keyring=Keyring(config.state_dir),
        mail=mail,
        instance=config.instance,
    )
