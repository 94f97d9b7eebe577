"""What is known (section 3.1): artists, tracks, plays, relations, metadata, features."""

from undersong.catalogue.attributes import (
    ATTRIBUTES_FILE,
    Attributes,
    make_attributes,
    read_attributes,
    write_attributes,
)
from undersong.catalogue.check import (
    LISTED,
    ROW,
    Fault,
    Issues,
    Sheet,
    check_catalogue,
    empty_faults,
    empty_table,
    find_issues,
    id_faults,
    issues_text,
    member_faults,
    number_faults,
    path_faults,
    play_faults,
    refuse,
    relation_faults,
    shown,
    split_faults,
    vector_faults,
    whole,
    width_faults,
    write_failures,
)
from undersong.catalogue.describe import (
    KindDescription,
    describe_catalogue,
    description_text,
    plot_relations,
    words_about,
)
from undersong.catalogue.heard import Heard, read_heard, write_heard
from undersong.catalogue.names import (
    Item,
    Names,
    fold,
    name_key,
    read_ids,
    select,
    suggest,
)
from undersong.catalogue.schema import (
    FIELD_TYPES,
    ITEMS,
    KINDS,
    PLAYS,
    RELATIONS,
    ROLES,
    SERVICE,
    SPLITS,
    Field,
    FieldType,
    Kind,
    Origin,
    Role,
    importing,
    recorded_source,
)
from undersong.catalogue.splits import (
    SplitSettings,
    draw_alike,
    linked,
    split,
    tail_odds,
)
from undersong.catalogue.tables import (
    EXTRACTED,
    Catalogue,
    add_features,
    complete,
    fingerprint,
    numbered,
    read_catalogue,
    replacing_tables,
    rows_of,
    write_catalogue,
)
