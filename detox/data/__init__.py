"""From raw comments to a cleaned, stratified, documented data set."""
