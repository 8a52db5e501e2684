"""The seed's acceptance: what the product was asked for at first, and the stage that it plays on."""
